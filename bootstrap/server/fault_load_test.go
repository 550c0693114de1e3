//go:build linux

package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// load is what the clients do in one round: each submits a job after the other, with a key of its own, and repeats what is
// refused until it is accepted.
type load struct {
	*cluster
	ctx     context.Context // of the clients, which the load owns
	cancel  context.CancelFunc
	ending  chan struct{} // closed when no client is to begin another job
	end     func()
	running sync.WaitGroup

	mu         sync.Mutex
	jobs       []*job
	refused    int
	unanswered int
	replayed   int
	since      [clientCount]tally // the last mark
}

// A tally is what has happened to a client.
type tally struct{ accepted, refused int }

// A job is one that was accepted.
type job struct {
	key, id             string
	submitted, finished time.Time
}

func (c *cluster) newLoad() *load {
	c.checked = map[string]int{}
	l := &load{cluster: c, ending: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.WithoutCancel(c.t.Context()))
	l.end = sync.OnceFunc(func() { close(l.ending) })
	return l
}

func (l *load) start() {
	for client := range clientCount {
		random := rand.New(rand.NewPCG(l.random.Uint64(), uint64(client)))
		l.running.Go(func() {
			for {
				// 8 of these are what two busy cores get done beside all else, so that no backlog builds up.
				pause := time.NewTimer(20*time.Millisecond + time.Duration(random.Int64N(int64(80*time.Millisecond))))
				select {
				case <-l.ending:
					pause.Stop()
					return
				case <-pause.C:
				}
				l.clients[client]++
				if !l.accepted(client, task{fmt.Sprintf("client-%d.%d", client, l.clients[client]), random.IntN(100)}) {
					return
				}
			}
		})
	}
}

// mark has wait count from here.
func (l *load) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = [clientCount]tally{}
}

// wait returns when enough has happened to each client since the last mark.
func (l *load) wait(what string, enough func(tally) bool) {
	l.t.Helper()
	for limit := time.Now().Add(recoveryBound); ; time.Sleep(10 * time.Millisecond) {
		l.mu.Lock()
		since := l.since
		l.mu.Unlock()
		switch {
		case !slices.ContainsFunc(since[:], func(done tally) bool { return !enough(done) }):
			return
		case l.t.Failed():
			l.t.FailNow()
		case time.Now().After(limit):
			l.t.Fatalf("in vain waited until %s: %+v", what, since)
		}
	}
}

// stop returns when each client has had its last job accepted, which it is given that long for.
func (l *load) stop(limit time.Time) {
	l.end()
	timer := time.AfterFunc(time.Until(limit), l.cancel)
	defer timer.Stop()
	l.running.Wait()
}

// abort ends the clients, whatever they are at.
func (l *load) abort() {
	l.end()
	l.cancel()
	l.running.Wait()
}

// accepted has a job accepted, however often it takes, and one that was refused before once more. It returns false when
// that was not to be.
func (l *load) accepted(client int, work task) bool {
	body, err := json.Marshal(map[string]any{"name": "fault.test", "payload": work})
	if err != nil {
		l.t.Error(err)
		return false
	}
	j := &job{key: work.Key, submitted: time.Now()}
	again := false
	for {
		switch found := l.submit(client, j.key, body); {
		case found.broken:
			return false
		case !found.accepted:
			again = true
		case j.id == "":
			j.id = found.id
			l.mu.Lock()
			l.jobs = append(l.jobs, j)
			l.since[client].accepted++
			l.mu.Unlock()
			if !again {
				return true
			}
		case found.id != j.id || !found.replayed:
			l.t.Errorf("the key %s is job %s, and when it was sent again %+v", j.key, j.id, found)
			return false
		default:
			l.mu.Lock()
			l.replayed++
			l.mu.Unlock()
			return true
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-l.ctx.Done():
			if j.id == "" && !l.t.Failed() {
				l.t.Errorf("the key %s was refused to the end", j.key)
			}
			return false
		}
	}
}

// An answer is what a submission came to: accepted, refused, or broken for an answer that should not have been.
type answer struct {
	id                         string
	accepted, replayed, broken bool
}

// submit sends one request.
func (l *load) submit(client int, key string, body []byte) answer {
	began := time.Now()
	req, err := http.NewRequestWithContext(l.ctx, http.MethodPost, l.nodes[0].address()+"/jobs", bytes.NewReader(body))
	if err != nil {
		l.t.Error(err)
		return answer{broken: true}
	}
	req.Header.Set("Authorization", "Bearer "+l.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	resp, err := l.client.Do(req)
	var text []byte
	if err == nil {
		text, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err != nil {
		switch {
		case l.ctx.Err() != nil: // the round is over
		case !l.wasOut(began):
			l.t.Errorf("the API was there and did not answer: %v", err)
			return answer{broken: true}
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.unanswered++
		l.since[client].refused++
		return answer{}
	}
	l.check(req, string(body), resp, text)
	var found struct{ ID, Code string }
	err = json.Unmarshal(text, &found)
	replayed := resp.Header.Get("Idempotent-Replayed") == "true"
	switch {
	case err == nil && found.ID != "" && (resp.StatusCode == http.StatusCreated && !replayed || resp.StatusCode == http.StatusOK && replayed):
		return answer{id: found.ID, accepted: true, replayed: replayed}
	case err == nil && found.Code != "" && resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
		l.mu.Lock()
		defer l.mu.Unlock()
		l.refused++
		l.since[client].refused++
		return answer{}
	default:
		l.t.Errorf("a submission was answered with %s\n%v\n%s", resp.Status, resp.Header, text)
		return answer{broken: true}
	}
}
