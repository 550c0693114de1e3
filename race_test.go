//go:build race

package jobgate_test

// raceEnabled says that the race detector watches, which allocates for itself.
const raceEnabled = true
