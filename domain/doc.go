// Package domain holds the words and the rules of jobgate: what a Job is and which steps it may take, who a Principal
// is, what an AccessPolicy grants, and how an error is classified. It knows no transport, no storage and no clock:
// every time is an argument and every decision is a function of values, so that each can be tested as a table.
package domain
