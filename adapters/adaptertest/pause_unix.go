//go:build unix

package adaptertest

import "syscall"

// Pause stops the server with SIGSTOP: its connections stay, and nothing answers.
func (s *RabbitMQServer) Pause() { s.signal(syscall.SIGSTOP) }

// Continue has a paused server go on.
func (s *RabbitMQServer) Continue() { s.signal(syscall.SIGCONT) }

func (s *RabbitMQServer) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.process.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}
