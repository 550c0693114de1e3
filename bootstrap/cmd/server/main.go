// Command server is jobgate on servers: its API and its worker, in one process or in several. It logs each job; a
// program that does something about them is this one with handlers:
//
//	server.Main(jobs.Handlers{"report.render": render})
package main

import "github.com/jobgate/jobgate/bootstrap/server"

func main() { server.Main(nil) }
