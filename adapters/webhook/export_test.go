package webhook

// For tests of what no server on this machine can bring about.
var (
	RefusePrivate = refusePrivate
	RetryAfter    = retryAfter
)

const MaxResponse = maxResponse
