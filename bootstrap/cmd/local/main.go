// Command local is the whole of jobgate in one process, for a laptop: an OIDC provider, the gateway in front of the
// functions that are deployed to Lambda, and SQLite as their store and queue.
package main

import "github.com/jobgate/jobgate/bootstrap/local"

func main() { local.Main(nil) }
