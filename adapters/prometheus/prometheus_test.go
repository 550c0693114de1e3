package prometheus_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"github.com/jobgate/jobgate/adapters/memory"
	"github.com/jobgate/jobgate/adapters/prometheus"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scrape returns every series of our own by its name and labels: a counter or gauge's value, a histogram's count.
func scrape(t *testing.T, m *prometheus.Metrics) map[string]float64 {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Scrape().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("GET /metrics: %d %s", rec.Code, rec.Body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]float64{}
	for name, family := range families {
		if !strings.HasPrefix(name, "jobgate_") {
			continue
		}
		if family.GetHelp() == "" {
			t.Errorf("%s has no help", name)
		}
		for _, metric := range family.Metric {
			var labels []string
			for _, label := range metric.Label {
				labels = append(labels, label.GetName()+"="+label.GetValue())
			}
			series[name+"{"+strings.Join(labels, ",")+"}"] = value(family.GetType(), metric)
		}
	}
	return series
}

func value(kind dto.MetricType, m *dto.Metric) float64 {
	switch kind {
	case dto.MetricType_HISTOGRAM:
		return float64(m.GetHistogram().GetSampleCount())
	case dto.MetricType_COUNTER:
		return m.GetCounter().GetValue()
	default:
		return m.GetGauge().GetValue()
	}
}

// want compares the series with the given prefix.
func want(t *testing.T, m *prometheus.Metrics, prefix string, want map[string]float64) {
	t.Helper()
	got := map[string]float64{}
	for name, value := range scrape(t, m) {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			got[rest] = value
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", prefix, diff)
	}
}

// shop is a worker with metrics over a store in memory.
type shop struct {
	*prometheus.Metrics
	store    *memory.Store
	worker   *jobs.Worker
	deliver  ports.Deliver
	handlers jobs.Handlers
}

func newShop() *shop {
	handlers := jobs.Handlers{
		"report.*": func(context.Context, jobs.Run) ([]byte, error) { return nil, nil },
		"fails":    func(context.Context, jobs.Run) ([]byte, error) { return nil, errors.New("boom") },
		"doomed":   func(context.Context, jobs.Run) ([]byte, error) { return nil, domain.Permanent(errors.New("boom")) },
		"panics":   func(context.Context, jobs.Run) ([]byte, error) { panic("boom") },
	}
	s := &shop{Metrics: prometheus.New("v1.2.3", handlers.Pattern), store: memory.NewStore(time.Now), handlers: handlers}
	s.worker = &jobs.Worker{
		Store: s.store, Handler: s.Handler(handlers), Retention: domain.DefaultRetention, Name: "w",
		Now: time.Now, NewToken: uuid.NewString, Random: func() float64 { return 0 }, Settled: s.Settled(func(domain.Job) {}),
	}
	s.deliver = s.Deliver(s.worker.Deliver)
	return s
}

// run stores a job and delivers it, and returns its id.
func (s *shop) run(t *testing.T, name string) string {
	t.Helper()
	job, err := domain.NewJob(domain.JobSpec{ID: uuid.NewString(), Name: name, Retry: domain.DefaultRetryPolicy, Retention: domain.DefaultRetention}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.store.Create(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	s.deliver(t.Context(), domain.Delivery{JobID: job.ID})
	return job.ID
}

func TestRunsAreCountedByPatternAndOutcome(t *testing.T) {
	t.Parallel()
	s := newShop()
	s.run(t, "report.daily")
	id := s.run(t, "report.weekly")
	s.deliver(t.Context(), domain.Delivery{JobID: id}) // a duplicate
	s.deliver(t.Context(), domain.Delivery{Err: errors.New("no JSON")})
	s.deliver(t.Context(), domain.Delivery{JobID: uuid.NewString()})
	for _, name := range []string{"fails", "doomed", "panics", "unheard-of"} {
		s.run(t, name)
	}
	want(t, s.Metrics, "jobgate_jobs_settled_total", map[string]float64{
		"{pattern=report.*,reason=,status=succeeded}":   2,
		"{pattern=fails,reason=,status=retried}":        1,
		"{pattern=doomed,reason=permanent,status=dead}": 1,
		"{pattern=panics,reason=,status=retried}":       1,
		"{pattern=none,reason=,status=retried}":         1,
	})
	want(t, s.Metrics, "jobgate_run_duration_seconds", map[string]float64{
		"{outcome=succeeded,pattern=report.*}": 2,
		"{outcome=failed,pattern=fails}":       1,
		"{outcome=failed,pattern=doomed}":      1,
		"{outcome=panicked,pattern=panics}":    1,
		"{outcome=failed,pattern=none}":        1,
	})
	want(t, s.Metrics, "jobgate_queue_wait_seconds", map[string]float64{
		"{pattern=report.*}": 2, "{pattern=fails}": 1, "{pattern=doomed}": 1, "{pattern=panics}": 1, "{pattern=none}": 1,
	})
	want(t, s.Metrics, "jobgate_runs_in_flight", map[string]float64{
		"{pattern=report.*}": 0, "{pattern=fails}": 0, "{pattern=doomed}": 0, "{pattern=panics}": 0, "{pattern=none}": 0,
	})
	want(t, s.Metrics, "jobgate_deliveries_total", map[string]float64{
		"{reason=,verdict=ack}": 5, "{reason=permanent,verdict=ack}": 1, "{reason=finished,verdict=ack}": 1,
		"{reason=undecodable,verdict=dead-letter}": 1, "{reason=record_missing,verdict=return}": 1,
	})
	want(t, s.Metrics, "jobgate_build_info", map[string]float64{"{version=v1.2.3}": 1})
}

func TestNamesThatCallersChooseAreNoSeries(t *testing.T) {
	t.Parallel()
	s := newShop()
	s.run(t, "report.first")
	s.run(t, "first")
	before := len(scrape(t, s.Metrics))
	for i := range 500 {
		s.run(t, fmt.Sprintf("report.%d", i))
		s.run(t, fmt.Sprintf("%d:evil-%s", i, strings.Repeat("x", 100)))
	}
	if after := scrape(t, s.Metrics); len(after) != before {
		t.Errorf("%d series became %d", before, len(after))
	} else if after["jobgate_jobs_settled_total{pattern=report.*,reason=,status=succeeded}"] != 501 {
		t.Errorf("counted %v", after)
	}
}

func TestARunIsInFlightUntilItEnds(t *testing.T) {
	t.Parallel()
	s := newShop()
	s.handlers["slow"] = func(context.Context, jobs.Run) ([]byte, error) {
		want(t, s.Metrics, "jobgate_runs_in_flight", map[string]float64{"{pattern=slow}": 1})
		return nil, nil
	}
	s.run(t, "slow")
	want(t, s.Metrics, "jobgate_runs_in_flight", map[string]float64{"{pattern=slow}": 0})
}

// sums returns the seconds that a histogram has seen.
func sums(t *testing.T, m *prometheus.Metrics, name string) (seconds float64, count uint64) {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Scrape().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, metric := range families[name].GetMetric() {
		seconds += metric.GetHistogram().GetSampleSum()
		count += metric.GetHistogram().GetSampleCount()
	}
	return seconds, count
}

func TestAJobWaitsFromItsDueTimeToItsStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShop()
		attempts := 0
		s.handlers["slow"] = func(context.Context, jobs.Run) ([]byte, error) {
			time.Sleep(20 * time.Second)
			if attempts++; attempts == 1 {
				return nil, domain.Errorf(domain.Unavailable, domain.ReasonUnavailable, "later")
			}
			return nil, nil
		}
		job, err := domain.NewJob(domain.JobSpec{
			ID: uuid.NewString(), Name: "slow", Retry: domain.DefaultRetryPolicy, Retention: domain.DefaultRetention, Delay: time.Minute,
		}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.store.Create(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute + 3*time.Second)
		s.deliver(t.Context(), domain.Delivery{JobID: job.ID})
		if waited, n := sums(t, s.Metrics, "jobgate_queue_wait_seconds"); waited != 3 || n != 1 {
			t.Errorf("%d starts waited %v s, want one and 3 s", n, waited)
		}
		if ran, n := sums(t, s.Metrics, "jobgate_run_duration_seconds"); ran != 20 || n != 1 {
			t.Errorf("%d runs took %v s, want one and 20 s", n, ran)
		}
		stored, err := s.store.Get(t.Context(), job.ID)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(stored.DueAt) + 4*time.Second)
		s.deliver(t.Context(), domain.Delivery{JobID: job.ID})
		if waited, n := sums(t, s.Metrics, "jobgate_queue_wait_seconds"); waited != 7 || n != 2 {
			t.Errorf("%d starts waited %v s, want a second one and 4 s more", n, waited)
		}
	})
}

func TestAJobTakenOverHasNotWaitedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShop()
		job, err := domain.NewJob(domain.JobSpec{ID: uuid.NewString(), Name: "report.daily", Retry: domain.DefaultRetryPolicy, Retention: domain.DefaultRetention}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		job, err = job.Claim(time.Now(), "another's", "lost")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.store.Create(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		s.deliver(t.Context(), domain.Delivery{JobID: job.ID})
		if _, n := sums(t, s.Metrics, "jobgate_run_duration_seconds"); n != 1 {
			t.Errorf("%d runs", n)
		}
		if waited, n := sums(t, s.Metrics, "jobgate_queue_wait_seconds"); n != 0 {
			t.Errorf("%d starts waited %v s", n, waited)
		}
	})
}

type verifier struct{ err error }

func (v verifier) Verify(context.Context, string) (domain.Principal, error) {
	return domain.Principal{ClientID: "c"}, v.err
}

func TestVerificationsAreCountedByReason(t *testing.T) {
	t.Parallel()
	m := prometheus.New("", nil)
	for _, err := range []error{nil, nil, domain.Errorf(domain.Unauthenticated, domain.ReasonTokenExpired, "expired"), errors.New("a fault")} {
		who, got := m.Verifier(verifier{err}).Verify(t.Context(), "token")
		if got != err || who.ClientID != "c" { //nolint:errorlint // the very value
			t.Errorf("Verify = %v, %v, want what the verifier said", who, got)
		}
	}
	want(t, m, "jobgate_token_verifications_total", map[string]float64{"{result=ok}": 2, "{result=token_expired}": 1, "{result=internal}": 1})
}

type dispatcher struct{ err error }

func (d dispatcher) Fits(domain.Job) error                      { return d.err }
func (d dispatcher) Dispatch(context.Context, domain.Job) error { return d.err }

func TestDispatchesAreCountedByKind(t *testing.T) {
	t.Parallel()
	m := prometheus.New("", nil)
	for _, err := range []error{nil, domain.Errorf(domain.Unavailable, "", ""), domain.Errorf(domain.TooLarge, "", ""), errors.New("a fault")} {
		d := m.Dispatcher(dispatcher{err})
		if got := d.Dispatch(t.Context(), domain.Job{}); got != err { //nolint:errorlint // the very value
			t.Errorf("Dispatch = %v, want %v", got, err)
		}
		if got := d.Fits(domain.Job{}); got != err { //nolint:errorlint // the very value
			t.Errorf("Fits = %v, want %v", got, err)
		}
	}
	want(t, m, "jobgate_dispatches_total", map[string]float64{
		"{result=ok}": 1, "{result=unavailable}": 1, "{result=too_large}": 1, "{result=internal}": 1,
	})
}

func TestRequestsAreCountedByRoute(t *testing.T) {
	t.Parallel()
	m := prometheus.New("", nil)
	mux := http.NewServeMux()
	status := http.StatusCreated
	mux.HandleFunc("/jobs", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	mux.HandleFunc("/jobs/{id}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	api := m.API(mux)
	request := func(method, target string, answer int) {
		status = answer
		api.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), method, target, nil))
	}
	request("POST", "/jobs", http.StatusCreated)
	request("POST", "/jobs", http.StatusOK)
	request("POST", "/jobs", http.StatusForbidden)
	m.Refused("POST", "/jobs", domain.Errorf(domain.Forbidden, domain.ReasonInsufficientScope, "no"))
	request("GET", "/jobs", http.StatusOK)
	for i := range 50 {
		request("GET", fmt.Sprintf("/jobs/%d", i), http.StatusNotFound)
		m.Refused("GET", "/jobs/{id}", domain.Errorf(domain.NotFound, domain.ReasonNotFound, "no"))
		request("GET", fmt.Sprintf("/evil/%d", i), 0)
		request(fmt.Sprintf("EVIL%d", i), "/jobs", http.StatusMethodNotAllowed)
	}
	want(t, m, "jobgate_http_requests_total", map[string]float64{
		"{code=201,method=POST,route=/jobs}": 1, "{code=200,method=POST,route=/jobs}": 1, "{code=403,method=POST,route=/jobs}": 1,
		"{code=200,method=GET,route=/jobs}": 1, "{code=404,method=GET,route=/jobs/{id}}": 50, "{code=404,method=GET,route=other}": 50,
		"{code=405,method=other,route=/jobs}": 50,
	})
	want(t, m, "jobgate_http_request_duration_seconds", map[string]float64{
		"{method=POST,route=/jobs}": 3, "{method=GET,route=/jobs}": 1, "{method=GET,route=/jobs/{id}}": 50, "{method=GET,route=other}": 50,
		"{method=other,route=/jobs}": 50,
	})
	want(t, m, "jobgate_submissions_total", map[string]float64{
		"{outcome=created,reason=}": 1, "{outcome=replayed,reason=}": 1, "{outcome=refused,reason=insufficient_scope}": 1,
	})
}

func TestTheQueuesAgeIsAskedForOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := prometheus.New("", nil)
		var (
			asked int
			due   = time.Now()
			ok    = true
			err   error
		)
		m.Queue(func(ctx context.Context) (time.Time, bool, error) {
			asked++
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("asked without a deadline")
			}
			return due, ok, err
		})
		step := func(asks int, wanted map[string]float64) {
			t.Helper()
			want(t, m, "jobgate_queue_age", wanted)
			if asked != asks {
				t.Errorf("asked %d times, want %d", asked, asks)
			}
		}
		time.Sleep(5 * time.Second)
		step(1, map[string]float64{"_seconds{}": 5, "_failures_total{}": 0})
		time.Sleep(500 * time.Millisecond)
		step(1, map[string]float64{"_seconds{}": 5.5, "_failures_total{}": 0})
		time.Sleep(500 * time.Millisecond)
		ok = false
		step(2, map[string]float64{"_seconds{}": 0, "_failures_total{}": 0})
		time.Sleep(time.Second)
		err = errors.New("the store is gone")
		step(3, map[string]float64{"_failures_total{}": 1})
		step(3, map[string]float64{"_failures_total{}": 1})
		time.Sleep(time.Second)
		due, ok, err = time.Now().Add(time.Minute), true, nil // a clock ahead of ours
		step(4, map[string]float64{"_seconds{}": 0, "_failures_total{}": 1})
	})
}

func TestAStoreThatHangsDelaysAScrapeByTwoSecondsAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := prometheus.New("", nil)
		m.Queue(func(ctx context.Context) (time.Time, bool, error) {
			<-ctx.Done()
			return time.Time{}, false, ctx.Err()
		})
		begin := time.Now()
		want(t, m, "jobgate_queue_age", map[string]float64{"_failures_total{}": 1})
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestFaultsAreCountedByPart(t *testing.T) {
	t.Parallel()
	m := prometheus.New("", nil)
	m.Fault("store")
	m.Fault("store")
	want(t, m, "jobgate_faults_total", map[string]float64{"{part=store}": 2})
}

func TestNothingButMetricsIsServed(t *testing.T) {
	t.Parallel()
	m := prometheus.New("", nil)
	for _, tt := range []struct {
		method, target string
		want           int
	}{{"GET", "/", 404}, {"GET", "/metrics/", 404}, {"POST", "/metrics", 405}, {"GET", "/debug/pprof/", 404}, {"GET", "/metrics", 200}} {
		rec := httptest.NewRecorder()
		m.Scrape().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), tt.method, tt.target, nil))
		if rec.Code != tt.want {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.target, rec.Code, tt.want)
		}
		if tt.want == 200 && !(strings.Contains(rec.Body.String(), "go_goroutines ") && strings.Contains(rec.Body.String(), "process_")) {
			t.Errorf("the runtime and the process are missing:\n%s", rec.Body)
		}
	}
}
