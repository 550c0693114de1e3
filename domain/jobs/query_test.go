package jobs_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
	"github.com/jobgate/jobgate/ports"
	"github.com/jobgate/jobgate/ports/portstest"
)

const (
	alicesJob = "00000000-0000-7000-8000-00000000000a"
	bobsJob   = "00000000-0000-7000-8000-00000000000b"
	noJob     = "00000000-0000-7000-8000-00000000000f"
)

type desk struct {
	*jobs.Query
	clock *portstest.Clock
	store *stubStore
}

func newDesk() desk {
	clock := portstest.NewClock()
	store := newStubStore(clock.Now)
	return desk{clock: clock, store: store, Query: &jobs.Query{Store: store, Policy: domain.DefaultPolicy(), Now: clock.Now}}
}

func ownedBy(who domain.Identity) func(*domain.Job) { return func(j *domain.Job) { j.Owner = who } }

func TestGet(t *testing.T) {
	t.Parallel()
	expired := user(alice)
	expired.ExpiresAt = portstest.NewClock().Now()
	namesakes := domain.Identity{Issuer: "https://other.example/", Subject: "alice"}
	narrow := domain.AccessPolicy{Rules: []domain.Rule{
		{Effect: domain.Allow, Actions: []domain.Action{domain.ActionRead}},
		{Effect: domain.Deny, Actions: []domain.Action{domain.ActionRead}, Jobs: []string{"report.*"}},
	}}
	tests := []struct {
		name   string
		who    domain.Principal
		id     string
		policy *domain.AccessPolicy
		kind   domain.Kind // of a refusal
		reason domain.Reason
	}{
		{name: "one's own", who: user(alice), id: alicesJob},
		{name: "another's, as admin", who: withScopes(alice, "jobs:admin"), id: bobsJob},
		{name: "another's", who: user(alice), id: bobsJob, kind: domain.NotFound, reason: domain.ReasonNotFound},
		{name: "a namesake's", who: user(namesakes), id: alicesJob, kind: domain.NotFound, reason: domain.ReasonNotFound},
		{name: "absent", who: user(alice), id: noJob, kind: domain.NotFound, reason: domain.ReasonNotFound},
		{name: "no UUID", who: user(alice), id: "1", kind: domain.NotFound, reason: domain.ReasonNotFound},
		{name: "in capitals", who: user(alice), id: strings.ToUpper(alicesJob), kind: domain.NotFound, reason: domain.ReasonNotFound},
		{name: "no scope", who: withScopes(alice, "jobs:submit"), id: alicesJob, kind: domain.Forbidden, reason: domain.ReasonInsufficientScope},
		{name: "no scope, absent", who: withScopes(alice, "jobs:submit"), id: noJob, kind: domain.Forbidden, reason: domain.ReasonInsufficientScope},
		{name: "expired since the gate", who: expired, id: alicesJob, kind: domain.Unauthenticated, reason: domain.ReasonTokenExpired},
		{name: "one's own with a name that is denied", who: user(alice), id: alicesJob, policy: &narrow, kind: domain.Forbidden, reason: domain.ReasonForbidden},
		{name: "another's with a name that is denied", who: user(alice), id: bobsJob, policy: &narrow, kind: domain.NotFound, reason: domain.ReasonNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk()
			want := map[string]domain.Job{
				alicesJob: d.store.put(t, d.clock.Now(), alicesJob, nil),
				bobsJob:   d.store.put(t, d.clock.Now(), bobsJob, ownedBy(bob)),
			}
			if tt.policy != nil {
				d.Policy = *tt.policy
			}
			got, err := d.Get(t.Context(), tt.who, tt.id)
			if tt.reason != "" {
				wantError(t, err, tt.kind, tt.reason)
				if got.ID != "" {
					t.Errorf("refused, and answered with %s", got.ID)
				}
				return
			}
			if diff := cmp.Diff(want[tt.id], got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestAnothersJobLooksExactlyLikeNone(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.store.put(t, d.clock.Now(), bobsJob, ownedBy(bob))
	d.store.get = func(ctx context.Context, id string) (domain.Job, error) {
		job, err := d.store.Store.Get(ctx, id)
		if err != nil { // as an adapter with words of its own says it
			err = domain.Wrap(err, domain.NotFound, domain.ReasonNotFound, "no item with the key %s", id)
		}
		return job, err
	}
	var told []error
	for _, id := range []string{bobsJob, noJob, "no UUID"} {
		_, err := d.Get(t.Context(), user(alice), id)
		told = append(told, err)
	}
	for _, err := range told[1:] {
		if diff := cmp.Diff(told[0], err); diff != "" {
			t.Errorf("(-another's +none):\n%s", diff)
		}
	}
	change := &jobs.Change{Store: d.store, Dispatcher: &stubBroker{}, Policy: d.Policy, Now: d.clock.Now}
	for _, id := range []string{bobsJob, noJob, "no UUID"} {
		for name, call := range map[string]func(context.Context, domain.Principal, string) (domain.Job, error){"cancel": change.Cancel, "redrive": change.Redrive} {
			_, err := call(t.Context(), user(alice), id)
			if diff := cmp.Diff(told[0], err); diff != "" {
				t.Errorf("%s of %s (-another's +this):\n%s", name, id, diff)
			}
		}
	}
}

func TestGetDoesNotAskTheStoreAboutWhatIsNoID(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.store.get = func(_ context.Context, id string) (domain.Job, error) {
		t.Errorf("asked about %q", id)
		return domain.Job{}, unavailable()
	}
	_, err := d.Get(t.Context(), user(alice), "../jobs")
	wantError(t, err, domain.NotFound, domain.ReasonNotFound)
}

func TestGetPassesTheStoresTroubleOn(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.store.get = func(context.Context, string) (domain.Job, error) { return domain.Job{}, unavailable() }
	_, err := d.Get(t.Context(), user(alice), alicesJob)
	wantError(t, err, domain.Unavailable, domain.ReasonUnavailable)
}

// walk lists page after page and returns the ids of each.
func (d desk) walk(t *testing.T, who domain.Principal, f jobs.Filter) (pages [][]string) {
	t.Helper()
	for {
		page, err := d.List(t.Context(), who, f)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, job := range page.Jobs {
			ids = append(ids, job.ID)
		}
		pages = append(pages, ids)
		if page.Next.IsZero() {
			return pages
		}
		if f.After = page.Next; len(pages) > 100 {
			t.Fatal("the pages have no end")
		}
	}
}

func TestListShowsWhatTheCallerMayRead(t *testing.T) {
	t.Parallel()
	read := func(change func(*domain.Rule)) domain.Rule {
		r := domain.Rule{Effect: domain.Allow, Actions: []domain.Action{domain.ActionRead}}
		if change != nil {
			change(&r)
		}
		return r
	}
	noReports := domain.Rule{Effect: domain.Deny, Actions: []domain.Action{domain.ActionRead}, Jobs: []string{"report.*"}}
	tests := []struct {
		name   string
		who    domain.Principal
		rules  []domain.Rule // nil: the default policy
		filter jobs.Filter
		want   string // the jobs below by their letter, newest first
	}{
		{"one's own", user(alice), nil, jobs.Filter{}, "e c a"},
		{"another caller's own", user(bob), nil, jobs.Filter{}, "d b"},
		{"as admin", withScopes(alice, "jobs:admin"), nil, jobs.Filter{}, "f e d c b a"},
		{"by name", user(alice), nil, jobs.Filter{Name: "mail.send"}, "c"},
		{"by status", user(alice), nil, jobs.Filter{Status: domain.Cancelled}, "e"},
		{"by name and status", user(alice), nil, jobs.Filter{Name: "mail.send", Status: domain.Cancelled}, ""},
		{"without the names that are denied", user(alice), []domain.Rule{read(nil), noReports}, jobs.Filter{}, "c"},
		{"the names that are allowed", user(alice), []domain.Rule{read(func(r *domain.Rule) { r.Jobs = []string{"mail.*"} })}, jobs.Filter{}, "c"},
		{"everybody's of one name, and one's own", user(alice), []domain.Rule{
			read(nil), read(func(r *domain.Rule) { r.AnyOwner, r.Jobs = true, []string{"mail.*"} }),
		}, jobs.Filter{}, "f e d c a"},
		{"everybody's without the names that are denied", user(alice), []domain.Rule{read(func(r *domain.Rule) { r.AnyOwner = true }), noReports}, jobs.Filter{}, "f d c"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk()
			letters := map[string]string{}
			for _, job := range []struct {
				letter, name string
				owner        domain.Identity
				cancelled    bool
			}{
				{"a", "report.daily", alice, false}, {"b", "report.daily", bob, false}, {"c", "mail.send", alice, false},
				{"d", "mail.send", bob, false}, {"e", "report.daily", alice, true}, {"f", "mail.send", domain.Identity{}, false},
			} {
				id := "00000000-0000-7000-8000-00000000000" + job.letter
				letters[id] = job.letter
				d.store.put(t, d.clock.Advance(time.Second), id, func(j *domain.Job) { j.Name, j.Owner = job.name, job.owner })
				if job.cancelled {
					d.cancel(t, id)
				}
			}
			if tt.rules != nil {
				d.Policy = domain.AccessPolicy{Rules: tt.rules}
			}
			for limit := range 7 { // 0 is the default; every other splits the list elsewhere
				tt.filter.Limit = limit
				var got []string
				for _, page := range d.walk(t, tt.who, tt.filter) {
					if limit > 0 && len(page) > limit {
						t.Errorf("limit %d: a page of %d jobs", limit, len(page))
					}
					for _, id := range page {
						got = append(got, letters[id])
					}
				}
				if got := strings.Join(got, " "); got != tt.want {
					t.Errorf("limit %d: jobs %q, want %q", limit, got, tt.want)
				}
			}
		})
	}
}

func (d desk) cancel(t *testing.T, id string) {
	t.Helper()
	if _, err := d.store.Store.Update(t.Context(), id, func(job domain.Job) (domain.Job, error) {
		return job.Cancel(d.clock.Now(), domain.ReasonCancelled)
	}); err != nil {
		t.Fatal(err)
	}
}

func TestListRefuses(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.store.put(t, d.clock.Now(), alicesJob, nil)
	_, err := d.List(t.Context(), withScopes(alice, "jobs:submit"), jobs.Filter{})
	wantError(t, err, domain.Forbidden, domain.ReasonInsufficientScope)

	expired := user(alice)
	expired.ExpiresAt = d.clock.Now()
	_, err = d.List(t.Context(), expired, jobs.Filter{})
	wantError(t, err, domain.Unauthenticated, domain.ReasonTokenExpired)

	d.store.list = func(context.Context, ports.JobQuery) (ports.JobPage, error) { return ports.JobPage{}, unavailable() }
	page, err := d.List(t.Context(), user(alice), jobs.Filter{})
	wantError(t, err, domain.Unavailable, domain.ReasonUnavailable)
	if len(page.Jobs) > 0 {
		t.Errorf("an error with %d jobs", len(page.Jobs))
	}
}

func TestListFillsAPage(t *testing.T) {
	t.Parallel()
	d := newDesk()
	ids := counter()
	for range jobs.DefaultPage + 5 {
		d.store.put(t, d.clock.Advance(time.Second), ids(), nil)
	}
	pages := d.walk(t, user(alice), jobs.Filter{})
	if len(pages) != 2 || len(pages[0]) != jobs.DefaultPage || len(pages[1]) != 5 {
		t.Errorf("%d pages: %q", len(pages), pages)
	}
}

// A rare job among many that the policy hides costs a bounded look and few calls of the store per page, whatever the
// page's size, and is found in the end.
func TestListLooksAtNoMoreThanItsBound(t *testing.T) {
	t.Parallel()
	const hidden, bound, mostCalls = 2500, 1000, 50
	for _, limit := range []int{1, 7, 20, 100} {
		t.Run(fmt.Sprintf("pages of %d", limit), func(t *testing.T) {
			t.Parallel()
			d := newDesk()
			d.Policy = domain.AccessPolicy{Rules: []domain.Rule{{Effect: domain.Allow, Actions: []domain.Action{domain.ActionRead}, Jobs: []string{"rare"}}}}
			every := make([]domain.Job, hidden+1)
			for i := range every {
				every[i] = domain.Job{ID: fmt.Sprintf("00000000-0000-7000-8000-%012d", hidden-i), Name: "hidden", Owner: alice}
			}
			every[hidden].Name = "rare"
			var examined, calls int
			d.store.list = func(_ context.Context, query ports.JobQuery) (page ports.JobPage, err error) {
				from := 0
				if !query.After.IsZero() {
					from = 1 + slices.IndexFunc(every, func(j domain.Job) bool { return j.ID == query.After.ID })
				}
				to := min(from+query.Limit, len(every))
				if page.Jobs = every[from:to]; to < len(every) {
					page.Next = ports.JobCursor{ID: every[to-1].ID}
				}
				examined, calls = examined+to-from, calls+1
				return page, nil
			}
			f := jobs.Filter{Limit: limit}
			var found []string
			for pages := 1; ; pages++ {
				examined, calls = 0, 0
				page, err := d.List(t.Context(), user(alice), f)
				if err != nil {
					t.Fatal(err)
				}
				if examined > bound+jobs.MaxPage || calls > mostCalls {
					t.Errorf("looked at %d jobs in %d calls for one page", examined, calls)
				}
				for _, job := range page.Jobs {
					found = append(found, job.ID)
				}
				if f.After = page.Next; page.Next.IsZero() {
					break
				}
				if pages > hidden/bound+1 {
					t.Fatalf("no end after %d pages", pages)
				}
			}
			if !slices.Equal(found, []string{every[hidden].ID}) {
				t.Errorf("found %q", found)
			}
		})
	}
}
