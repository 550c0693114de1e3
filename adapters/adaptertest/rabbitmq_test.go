package adaptertest

import (
	"testing"
	"time"
)

func TestRabbitMQAnswersAgainAfterARestart(t *testing.T) {
	t.Parallel()
	server := RabbitMQ(t)
	url := server.URL
	server.Kill()
	if server.accepts(t.Context()) {
		t.Error("a server that was killed answers")
	}
	server.Restart()
	if !server.accepts(t.Context()) || server.URL != url {
		t.Errorf("the server does not answer where it did: %s, then %s", url, server.URL)
	}
	server.Restart() // of one that runs
	if !server.accepts(t.Context()) {
		t.Error("the server does not answer")
	}
}

func TestRabbitMQIsSilentWhilePaused(t *testing.T) {
	t.Parallel()
	server := RabbitMQ(t)
	server.Pause()
	before := time.Now()
	if server.accepts(t.Context()) {
		t.Errorf("a paused server answers after %v", time.Since(before))
	}
	server.Continue()
	if !server.accepts(t.Context()) {
		t.Error("the server did not go on")
	}
}
