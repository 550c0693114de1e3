package rabbitmq

import (
	"net"
	"time"
)

// OpenWith is Open with other times: how long a returned message waits, and how often a queue that is not there is
// looked for.
func OpenWith(url string, opts Options, wait, look time.Duration) (*Broker, error) {
	return open(url, opts, timing{wait: wait, look: look})
}

// DeliveryLimit is how often the broker delivers a message before it sets it apart.
const DeliveryLimit = deliveryLimit

// MaxMessage is the largest message that is handed over.
const MaxMessage = maxMessage

// Translate classifies an error of the client.
var Translate = translate

// Patience is how long a message that is to be delivered again is held.
var Patience = patience

// MaxWrite is the most that is written to a connection at once.
const MaxWrite = maxWrite

// Gather returns the connection that the client of a broker gets to write to.
func Gather(conn net.Conn) net.Conn { return gather(impatientConn{conn}) }
