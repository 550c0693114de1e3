//go:build !unix

package adaptertest

// Pause skips the test: there is no signal for it here.
func (s *RabbitMQServer) Pause() {
	s.t.Helper()
	s.t.Skip("only Unix can pause a process")
}

// Continue has a paused server go on.
func (s *RabbitMQServer) Continue() {}
