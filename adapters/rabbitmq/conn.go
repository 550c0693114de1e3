package rabbitmq

import (
	"net"
	"sync"
	"time"
)

// impatientConn fails where the other side neither reads nor writes, for the client waits for either without a bound.
type impatientConn struct{ net.Conn }

func (c impatientConn) Read(p []byte) (int, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(maxSilence)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c impatientConn) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// The deadlines are this type's own.
func (c impatientConn) SetDeadline(time.Time) error      { return nil }
func (c impatientConn) SetReadDeadline(time.Time) error  { return nil }
func (c impatientConn) SetWriteDeadline(time.Time) error { return nil }

const (
	// maxWrite is the most that is written at once, for each write has its own bound of time.
	maxWrite = 128 << 10

	// keptRoom is the room for what is gathered that is kept when it has been written.
	keptRoom = 64 << 10
)

// gatheringConn takes what is to be written and returns: a goroutine of its own writes all that has come since its last
// write in one. The client hands it each message by itself, and for most of them a system call here, and a wake-up of the
// broker, is what they would cost most. It never makes anything wait for more to come.
//
// A write that fails ends the connection, which the client learns when it reads. What is gathered has no bound of its own:
// it is at most the messages in flight, with the acknowledgements of as many as a consumer has.
type gatheringConn struct {
	impatientConn
	wake  chan struct{} // holds one: there is something to write, and nobody was told
	ended chan struct{} // closed once the goroutine has ended
	once  sync.Once     // for closing wake

	mu       sync.Mutex
	gathered []byte
	err      error // why nothing more is taken, and wake is not sent to any more
}

// gather returns a connection that is to be closed.
func gather(conn impatientConn) *gatheringConn {
	c := &gatheringConn{impatientConn: conn, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	go c.writeGathered()
	return c
}

func (c *gatheringConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if len(c.gathered) == 0 {
		c.wake <- struct{}{} // there is room: the last one is gone, or else there would be something
	}
	c.gathered = append(c.gathered, p...)
	return len(p), nil
}

// Close gives up what is not written yet.
func (c *gatheringConn) Close() error {
	c.refuse(net.ErrClosed)
	c.once.Do(func() { close(c.wake) })
	err := c.Conn.Close()
	<-c.ended
	return err
}

// refuse has nothing more taken.
func (c *gatheringConn) refuse(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

func (c *gatheringConn) writeGathered() {
	defer close(c.ended)
	var room []byte
	for range c.wake {
		c.mu.Lock()
		batch := c.gathered
		c.gathered = room[:0]
		c.mu.Unlock()
		if err := c.writeAll(batch); err != nil {
			c.refuse(err)
			c.Conn.Close() // so that the client's reader learns it, and closes this
		}
		if room = batch; cap(room) > keptRoom {
			room = nil
		}
	}
}

func (c *gatheringConn) writeAll(p []byte) error {
	for len(p) > 0 {
		n, err := c.impatientConn.Write(p[:min(len(p), maxWrite)])
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}
