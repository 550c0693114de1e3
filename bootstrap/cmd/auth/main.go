// Command auth is the authorizer function of jobgate, run by AWS Lambda.
package main

import "github.com/jobgate/jobgate/bootstrap/auth"

func main() { auth.Main() }
