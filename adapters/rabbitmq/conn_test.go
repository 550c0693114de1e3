package rabbitmq_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/jobgate/jobgate/adapters/rabbitmq"
)

// pipe returns both ends of a connection: one that gathers, and one whose reads are the other's writes, one by one.
func pipe(t *testing.T) (gathering, broker net.Conn) {
	t.Helper()
	ours, broker := net.Pipe()
	gathering = rabbitmq.Gather(ours)
	t.Cleanup(func() {
		gathering.Close()
		broker.Close()
	})
	return gathering, broker
}

func write(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if n, err := io.WriteString(conn, text); n != len(text) || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
}

func read(t *testing.T, conn net.Conn, most int) string {
	t.Helper()
	buf := make([]byte, most)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestWhatIsWrittenMeanwhileIsWrittenAtOnce(t *testing.T) {
	t.Parallel()
	conn, broker := pipe(t)
	for range 3 {
		write(t, conn, "ab")
		if got := read(t, broker, 1); got != "a" { // the write is under way
			t.Fatalf("read %q", got)
		}
		write(t, conn, "cd")
		write(t, conn, "ef")
		if got := read(t, broker, 1); got != "b" {
			t.Fatalf("read %q", got)
		}
		if got := read(t, broker, 10); got != "cdef" {
			t.Errorf("read %q in one, want both that came meanwhile", got)
		}
	}
}

func TestWhatIsLargeIsWrittenInParts(t *testing.T) {
	t.Parallel()
	conn, broker := pipe(t)
	want := strings.Repeat("0123456789", 2*rabbitmq.MaxWrite/10)
	write(t, conn, want)
	var got bytes.Buffer
	for got.Len() < len(want) {
		part := read(t, broker, len(want))
		if len(part) > rabbitmq.MaxWrite {
			t.Errorf("%d bytes in one write, want at most %d", len(part), rabbitmq.MaxWrite)
		}
		got.WriteString(part)
	}
	if got.String() != want {
		t.Error("the parts are not what was written")
	}
}

func TestAWriteThatFailsEndsTheConnection(t *testing.T) {
	t.Parallel()
	conn, broker := pipe(t)
	broker.Close()
	write(t, conn, "a") // it is not known yet
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the reader is not told")
	}
	eventually(t, "refusal of what cannot be written", func() bool {
		_, err := io.WriteString(conn, "b")
		return err != nil
	})
}

func TestCloseWaitsForNoWrite(t *testing.T) {
	t.Parallel()
	conn, broker := pipe(t)
	write(t, conn, "ab")
	read(t, broker, 1)
	write(t, conn, "cd")
	for range 2 {
		conn.Close()
	}
	if n, err := io.WriteString(conn, "e"); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write after the end: %d, %v", n, err)
	}
}
