// Package ports holds the interfaces between jobgate's inside and outside: what the use cases need of a token issuer,
// a broker, a store and a worker's own code. Each comment is the law that its adapters obey; the suites in portstest
// hold them to it.
//
// Rules for every port: methods are safe for concurrent use. Errors are *domain.Error; an adapter translates its
// native errors once. A cancelled or expired context ends the call promptly with Unavailable, wrapping the context's
// error, and leaves it open whether the call took effect. No method retries beyond its context; unless it says
// otherwise, the caller decides whether to try again.
package ports
