// Package jobs holds the use cases of a job's life: submit, query, cancel and redrive for callers; the worker that runs
// a job; the sweep that hands out what is due or was abandoned; and the queue that a store is by itself. Each is a
// struct whose fields are the ports it needs, a clock and a source of ids.
//
// It is also what users with handlers of their own import: see Handlers and Typed.
package jobs
