// Package sqlstore keeps jobs in a SQL database: it is a ports.JobStore and a ports.JobSchedule. With jobs.NewQueue it
// is at the same time the queue, where there is no broker.
//
// On SQLite one goroutine writes. The writes of concurrent callers are collected into one transaction and committed
// together, so that a burst of them shares the cost of a commit; each caller is answered only after it. Reads go
// beside, on connections of their own, and see every write that was answered before they began.
package sqlstore
