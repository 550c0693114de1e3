// Package portstest holds one contract suite for each port. An adapter passes the suites of the ports it implements,
// against the real thing; a bug that is found against one becomes a case here before it is fixed. Imported by tests
// alone.
package portstest
