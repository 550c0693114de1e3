package emf_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"
	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/emf"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type verify func() error

func (f verify) Verify(context.Context, string) (domain.Principal, error) {
	return domain.Principal{}, f()
}

type dispatch func() error

func (dispatch) Fits(domain.Job) error                        { return nil }
func (f dispatch) Dispatch(context.Context, domain.Job) error { return f() }

func claimed(now time.Time) domain.Job {
	due := now.Add(-1500 * time.Millisecond)
	return domain.Job{ID: "0198c0de-0000-7000-8000-000000000001", Name: "report.render", DueAt: due, History: []domain.Attempt{{Number: 1, StartedAt: now}}}
}

// lines are what each decorator writes, by the name of its golden file.
var lines = map[string]func(*emf.Metrics){
	"verified": func(m *emf.Metrics) {
		_, _ = m.Verifier(verify(func() error { return nil })).Verify(context.Background(), "token")
	},
	"refused": func(m *emf.Metrics) {
		refuse := verify(func() error { return domain.Errorf(domain.Unauthenticated, domain.ReasonTokenExpired, "secret") })
		_, _ = m.Verifier(refuse).Verify(context.Background(), "token")
	},
	"not_dispatched": func(m *emf.Metrics) {
		fail := dispatch(func() error { return domain.Errorf(domain.TooLarge, domain.ReasonTooLarge, "secret") })
		_ = m.Dispatcher(fail).Dispatch(context.Background(), domain.Job{Name: "report.render"})
	},
	"run": func(m *emf.Metrics) {
		handler := jobs.HandlerFunc(func(context.Context, jobs.Run) ([]byte, error) {
			time.Sleep(12345678 * time.Nanosecond)
			return nil, errors.New("secret")
		})
		_, _ = m.Handler(handler).Handle(context.Background(), ports.Run{Job: claimed(time.Now()), Attempt: 1})
	},
	"run_taken_over": func(m *emf.Metrics) {
		job := claimed(time.Now())
		job.History = append([]domain.Attempt{{Number: 1, StartedAt: job.DueAt}}, job.History...)
		job.Name = "unheard.of"
		defer func() { _ = recover() }()
		_, _ = m.Handler(jobs.HandlerFunc(func(context.Context, jobs.Run) ([]byte, error) { panic("a bug") })).Handle(context.Background(), ports.Run{Job: job, Attempt: 2})
	},
	"retried": func(m *emf.Metrics) {
		m.Settled(func(domain.Job) {})(domain.Job{Name: "report.render", Status: domain.Queued})
	},
	"dead": func(m *emf.Metrics) {
		m.Settled(func(domain.Job) {})(domain.Job{Name: "unheard.of", Status: domain.Dead, Reason: domain.ReasonPermanent})
	},
	"swept": func(m *emf.Metrics) { m.Swept(jobs.Swept{Dispatched: 3, Failed: 1, Expired: 500}) },
}

func pattern(name string) string {
	return jobs.Handlers{"report.*": nil}.Pattern(name)
}

func written(t *testing.T, do func(*emf.Metrics)) []byte {
	t.Helper()
	var out bytes.Buffer
	synctest.Test(t, func(*testing.T) { // whose clock stands at 2000-01-01
		do(emf.New(&out, "jobgate-worker", pattern))
	})
	return out.Bytes()
}

func TestEachLineIsAsRecorded(t *testing.T) {
	t.Parallel()
	for name, do := range lines {
		want, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Error(err)
		}
		if got := written(t, do); !bytes.Equal(want, got) {
			t.Errorf("%s\n got %s\nwant %s", name, got, want)
		}
	}
}

// The bounds are the specification's.
func TestEachLineIsWhatCloudWatchTakes(t *testing.T) {
	t.Parallel()
	units := map[string]bool{"Count": true, "Milliseconds": true}
	for name, do := range lines {
		text := written(t, do)
		if bytes.Count(text, []byte("\n")) != 1 || text[len(text)-1] != '\n' || len(text) > 4096 || bytes.Contains(text, []byte("secret")) {
			t.Fatalf("%s is not one short line: %s", name, text)
		}
		var line map[string]any
		var meta struct {
			AWS struct {
				Timestamp         int64
				CloudWatchMetrics []struct {
					Namespace  string
					Dimensions [][]string
					Metrics    []struct{ Name, Unit string }
				}
			} `json:"_aws"`
		}
		if err := errors.Join(json.Unmarshal(text, &line), json.Unmarshal(text, &meta)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if meta.AWS.Timestamp != time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() && !strings.HasPrefix(name, "run") || len(meta.AWS.CloudWatchMetrics) != 1 {
			t.Errorf("%s: %+v", name, meta.AWS)
		}
		for _, d := range meta.AWS.CloudWatchMetrics {
			if d.Namespace != "jobgate" || len(d.Dimensions) == 0 || len(d.Metrics) == 0 || len(d.Metrics) > 100 {
				t.Errorf("%s: %+v", name, d)
			}
			for _, set := range d.Dimensions {
				if len(set) == 0 || len(set) > 30 || set[0] != "Function" {
					t.Errorf("%s: the dimensions %v", name, set)
				}
				for _, dimension := range set {
					if value, _ := line[dimension].(string); value == "" || len(value) > 1024 {
						t.Errorf("%s: the dimension %s is %q", name, dimension, value)
					}
				}
			}
			for _, m := range d.Metrics {
				if _, ok := line[m.Name].(float64); !ok || !units[m.Unit] {
					t.Errorf("%s: the metric %+v is %v", name, m, line[m.Name])
				}
			}
		}
	}
}

func TestWhatSucceedsAtOnceIsDecoratedAndNotWritten(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	m := emf.New(&out, "", nil)
	if err := m.Dispatcher(dispatch(func() error { return nil })).Dispatch(t.Context(), domain.Job{}); err != nil || out.Len() > 0 {
		t.Errorf("%v, %s", err, &out)
	}
}

func TestDecoratorsPassOnWhatTheyDecorate(t *testing.T) {
	t.Parallel()
	m, want := emf.New(&bytes.Buffer{}, "f", nil), errors.New("as it is")
	if _, err := m.Verifier(verify(func() error { return want })).Verify(t.Context(), ""); !errors.Is(err, want) {
		t.Errorf("Verify = %v", err)
	}
	if err := m.Dispatcher(dispatch(func() error { return want })).Dispatch(t.Context(), domain.Job{}); !errors.Is(err, want) {
		t.Errorf("Dispatch = %v", err)
	}
	output, err := m.Handler(jobs.HandlerFunc(func(context.Context, jobs.Run) ([]byte, error) { return []byte("1"), want })).Handle(t.Context(), ports.Run{})
	if string(output) != "1" || !errors.Is(err, want) {
		t.Errorf("Handle = %s, %v", output, err)
	}
	var told domain.Job
	m.Settled(func(job domain.Job) { told = job })(domain.Job{ID: "id"})
	if told.ID != "id" {
		t.Errorf("told of %+v", told)
	}
}

// A writer fails on two writes at once, which the race detector sees too.
type writer struct{ lines []string }

func (w *writer) Write(p []byte) (int, error) {
	w.lines = append(w.lines, string(p))
	return len(p), nil
}

func TestLinesOfManyAtOnceAreWhole(t *testing.T) {
	t.Parallel()
	w := &writer{}
	m := emf.New(w, "f", pattern)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { m.Settled(func(domain.Job) {})(domain.Job{Name: "report.a", Status: domain.Succeeded}) })
	}
	wg.Wait()
	if len(w.lines) != 50 {
		t.Fatalf("%d writes", len(w.lines))
	}
	for _, line := range w.lines {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil || v["Status"] != "succeeded" || strings.Count(line, "\n") != 1 {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func BenchmarkSettled(b *testing.B) {
	settled := emf.New(io.Discard, "jobgate-worker", pattern).Settled(func(domain.Job) {})
	b.ReportAllocs()
	for b.Loop() {
		settled(domain.Job{Name: "report.render", Status: domain.Succeeded})
	}
}
