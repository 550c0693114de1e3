package service_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/jobgate/jobgate/bootstrap/config/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRunningWorkGetsTheDrainTimeAndNoMore(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ work, want time.Duration }{
		"work that ends within it":  {2 * time.Second, 2 * time.Second},
		"work that goes on past it": {time.Hour, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				s := service.Service{Drain: 5 * time.Second, Log: zap.NewNop(), Parts: []service.Part{
					func(ctx, running context.Context) error {
						<-ctx.Done()
						select {
						case <-running.Done():
						case <-time.After(tt.work):
						}
						return nil
					},
				}}
				ended := make(chan error)
				go func() { ended <- s.Run(ctx) }()
				time.Sleep(time.Minute)
				stop()
				stopped := time.Now()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				if took := time.Since(stopped); took != tt.want {
					t.Errorf("stopped after %v, want %v", took, tt.want)
				}
			})
		})
	}
}

func TestAPartThatFailsEndsTheService(t *testing.T) {
	t.Parallel()
	failure := errors.New("the broker is gone for good")
	var stopped atomic.Bool
	s := service.Service{Drain: time.Second, Log: zap.NewNop(), Parts: []service.Part{
		func(_, _ context.Context) error { return failure },
		func(ctx, _ context.Context) error {
			<-ctx.Done()
			stopped.Store(true)
			return nil
		},
	}}
	if err := s.Run(t.Context()); !errors.Is(err, failure) || !stopped.Load() {
		t.Errorf("Run = %v, the other part stopped: %v", err, stopped.Load())
	}
}

func TestRequestsUnderWayAreAnsweredAndNoneTakenAfter(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun, release := make(chan struct{}), make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- service.Service{Listener: listener, Drain: time.Minute, Log: zap.NewNop(), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			close(begun)
			<-release
			service.Answer(w, http.StatusOK, "done")
		})}.Run(ctx)
	}()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	answered := make(chan string, 1)
	go func() {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String(), http.NoBody)
		resp, err := client.Do(req)
		if err != nil {
			answered <- err.Error()
			return
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		answered <- string(body)
	}()
	<-begun
	stop()
	for { // until the listener is closed
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	close(release)
	if got := <-answered; got != "done\n" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestASlowHeaderIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- service.Service{Listener: listener, Log: zap.NewNop(), Handler: http.NotFoundHandler()}.Run(ctx)
	}()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("the connection is still open: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestEvery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer stop()
		calls, reported := 0, 0
		err := service.Every(time.Second, func(context.Context) error {
			calls++
			return errors.New("now and then")
		}, func(error) { reported++ })(ctx, ctx)
		if err != nil || calls != 10 || reported != 10 {
			t.Errorf("%d calls, %d reports, %v; want 10 and 10", calls, reported, err)
		}
	})
}

func TestReadinessIsAskedForOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		var fault error
		health := service.Health(zap.NewNop(), map[string]func(context.Context) error{"store": func(context.Context) error {
			asked++
			return fault
		}})
		get := func(path string) int {
			w := httptest.NewRecorder()
			health.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
			return w.Code
		}
		for range 100 {
			if code := get("/readyz"); code != http.StatusOK {
				t.Fatalf("ready: %d", code)
			}
		}
		if asked != 1 {
			t.Errorf("the store was asked %d times for 100 requests", asked)
		}
		fault = errors.New("disk full")
		time.Sleep(time.Second)
		if ready, alive := get("/readyz"), get("/healthz"); ready != http.StatusServiceUnavailable || alive != http.StatusOK {
			t.Errorf("with a full disk: ready %d, alive %d", ready, alive)
		}
		fault = nil
		time.Sleep(time.Second)
		if code := get("/readyz"); code != http.StatusOK {
			t.Errorf("once there is room: %d", code)
		}
	})
}
