// Command jobs is the function of jobgate that answers its REST API, run by AWS Lambda.
package main

import "github.com/jobgate/jobgate/bootstrap/jobs"

func main() { jobs.Main() }
