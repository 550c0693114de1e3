//go:build race

package deployments_test

// raceEnabled says that the race detector watches: what one goroutine simulates takes it ten times as long, and has nothing to show.
const raceEnabled = true
