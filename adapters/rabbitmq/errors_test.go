package rabbitmq_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/jobgate/jobgate/adapters/rabbitmq"
	"github.com/jobgate/jobgate/adapters/wire/cloudevent"
	"github.com/jobgate/jobgate/domain"
)

func TestErrorsAreClassified(t *testing.T) {
	t.Parallel()
	known := domain.Errorf(domain.TooLarge, domain.ReasonTooLarge, "too large")
	tests := []struct {
		name string
		err  error
		want domain.Kind
	}{
		{"one of ours", known, domain.TooLarge},
		{"a cancelled context", context.Canceled, domain.Unavailable},
		{"an expired context", context.DeadlineExceeded, domain.Unavailable},
		{"a refused connection", &net.OpError{Op: "dial", Err: io.EOF}, domain.Unavailable},
		{"a closed channel", amqp.ErrClosed, domain.Unavailable},
		{"a handshake that broke off", amqp.ErrCredentials, domain.Unavailable},
		{"a broker that stops", &amqp.Error{Code: amqp.ConnectionForced, Server: true}, domain.Unavailable},
		{"a host that is down", &amqp.Error{Code: amqp.InternalError, Server: true}, domain.Unavailable},
		{"a consumer that was too slow", &amqp.Error{Code: amqp.ResourceError, Server: true}, domain.Unavailable},
		{"no permission", &amqp.Error{Code: amqp.AccessRefused, Server: true}, domain.Internal},
		{"no such virtual host", &amqp.Error{Code: amqp.NotAllowed, Server: true}, domain.Internal},
		{"other arguments", &amqp.Error{Code: amqp.PreconditionFailed, Server: true}, domain.Internal},
	}
	for _, tt := range tests {
		if got := domain.KindOf(rabbitmq.Translate(tt.err)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if err := rabbitmq.Translate(nil); err != nil {
		t.Errorf("no error is %v", err)
	}
}

func TestOpenRefusesWhatIsNoBroker(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, url, queue string }{
		{"another protocol", "https://guest:hunter2@localhost", ""},
		{"no URL", "amqp://guest:hunter2@local host", ""},
		{"nothing", "", ""},
		{"a queue of the broker", "amqp://localhost", "amq.jobs"},
		{"a name that is too long", "amqp://localhost", strings.Repeat("q", 201)},
	} {
		b, err := rabbitmq.Open(tt.url, rabbitmq.Options{Queue: tt.queue})
		if err == nil {
			b.Close()
		}
		if domain.KindOf(err) != domain.Invalid {
			t.Errorf("%s: %v, want Invalid", tt.name, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error has the password: %v", tt.name, err)
		}
	}
}

func TestABrokerThatIsNotThereIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	var told reports
	b, err := rabbitmq.Open("amqp://127.0.0.1:1/", rabbitmq.Options{Report: told.add})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	wantKind(t, rabbitmq.NewDispatcher(b, source).Dispatch(t.Context(), newJob(t)), domain.Unavailable)
	if took := time.Since(began); took > time.Second {
		t.Errorf("the dispatch failed after %v, want at once", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	wantKind(t, b.Ready(ctx), domain.Unavailable)
	wantKind(t, rabbitmq.NewConsumer(b, 1).Ready(ctx), domain.Unavailable)
	if err := rabbitmq.NewConsumer(b, 1).Consume(ctx, (&inbox{}).deliver); err != nil {
		t.Errorf("Consume = %v, want nil: the broker may yet come", err)
	}
	b.Close()
	wantKind(t, rabbitmq.NewDispatcher(b, source).Dispatch(t.Context(), newJob(t)), domain.Unavailable)
}

func TestFitsIsExactToTheByte(t *testing.T) {
	t.Parallel()
	d := rabbitmq.NewDispatcher(nil, source)
	job := newJob(t)
	job.Payload = []byte(`""`)
	size, err := cloudevent.Size(job, source)
	if err != nil {
		t.Fatal(err)
	}
	job.Payload = []byte(`"` + strings.Repeat("x", rabbitmq.MaxMessage-size) + `"`)
	if err := d.Fits(job); err != nil {
		t.Errorf("the largest message: %v", err)
	}
	job.Payload = append(job.Payload, ' ')
	wantKind(t, d.Fits(job), domain.TooLarge)
	wantKind(t, d.Dispatch(t.Context(), job), domain.TooLarge)
	job.Payload = []byte("{")
	wantKind(t, d.Dispatch(t.Context(), job), domain.Internal)
}

func TestAMessageIsHeldLongerTheMoreOftenItWasReturned(t *testing.T) {
	t.Parallel()
	counted := func(n int64) amqp.Delivery {
		return amqp.Delivery{Redelivered: true, Headers: amqp.Table{"x-delivery-count": n}}
	}
	for _, tt := range []struct {
		name string
		m    amqp.Delivery
		want time.Duration
	}{
		{"the first time", amqp.Delivery{}, 0},
		{"counted as none", counted(0), 0},
		{"the second time", counted(1), 20 * time.Millisecond},
		{"the fifth time", counted(4), 160 * time.Millisecond},
		{"often", counted(12), 30 * time.Second},
		{"very often", counted(900), 30 * time.Second},
		{"where nobody counts", amqp.Delivery{Redelivered: true}, 1280 * time.Millisecond},
	} {
		if got := rabbitmq.Patience(tt.m); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
