// Package sqlstore keeps jobs in a SQL database: it is a ports.JobStore and a ports.JobSchedule. With jobs.NewQueue it
// is at the same time the queue, where there is no broker.
//
// On SQLite one goroutine writes. The writes of concurrent callers are collected into one transaction and committed
// together, so that a burst of them shares the cost of a commit; each caller is answered only after it, and callers who
// come back at once share the next one too. Reads go beside, on connections of their own, and see every write that was
// answered before they began.
//
// On PostgreSQL any number of processes share one database, and what a call writes is a transaction of its own. An
// update is written if its job is still as it was read, and decided anew otherwise: nothing is locked while this side
// decides, and a process that halts in the middle holds up no other. Due jobs are locked as they are taken and skipped
// by other takers. A connection to a pooler must be a session of the database: statements are prepared, and Listen
// listens.
//
// A store remembers the open jobs that it wrote last, a bounded number of them, and an update goes by that: it reads
// only what it does not remember, or what turns out to have been changed by another process.
package sqlstore
