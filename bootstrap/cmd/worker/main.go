// Command worker is the function of jobgate that runs jobs, run by AWS Lambda. It logs each job; a program that does
// something about them is this one with handlers:
//
//	worker.Main(jobs.Handlers{"report.render": render})
package main

import "github.com/jobgate/jobgate/bootstrap/worker"

func main() { worker.Main(nil) }
