// Command jobgate is jobgate's command line, for the people who operate it.
package main

import "github.com/jobgate/jobgate/bootstrap/cli"

func main() { cli.Main() }
