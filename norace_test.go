//go:build !race

package jobgate_test

const raceEnabled = false
