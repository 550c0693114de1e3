package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/jobs"
)

func (a *api) get(w http.ResponseWriter, r *http.Request, who domain.Principal) error {
	job, err := a.Query.Get(r.Context(), who, r.PathValue("id"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, encodeJob(job))
	return nil
}

func (a *api) list(w http.ResponseWriter, r *http.Request, who domain.Principal) error {
	filter, err := parseFilter(r.URL.RawQuery)
	if err != nil {
		return err
	}
	page, err := a.Query.List(r.Context(), who, filter)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, encodePage(page))
	return nil
}

// change is the endpoint of a step of a job. Its body has nothing to say: there is none, or it is {}.
func (a *api) change(step func(context.Context, domain.Principal, string) (domain.Job, error)) endpoint {
	return func(w http.ResponseWriter, r *http.Request, who domain.Principal) error {
		if _, err := a.read(w, r, &struct{}{}); err != nil {
			return err
		}
		job, err := step(r.Context(), who, r.PathValue("id"))
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, encodeJob(job))
		return nil
	}
}

// parseFilter reads the query of a listing. A parameter that it does not know, or that is given twice, is refused: to
// drop one would list what nobody asked for.
func parseFilter(query string) (jobs.Filter, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return jobs.Filter{}, invalidQuery("the query is not URL-encoded")
	}
	var f jobs.Filter
	for name, given := range values {
		if err := setFilter(&f, name, given); err != nil {
			return jobs.Filter{}, err
		}
	}
	return f, nil
}

func setFilter(f *jobs.Filter, name string, given []string) error {
	switch name {
	case "status", "name", "limit", "cursor":
	default:
		return invalidQuery("the parameter %.40q is not known; there are status, name, limit and cursor", name)
	}
	if len(given) > 1 {
		return invalidQuery("the parameter %s is given more than once", name)
	}
	value := given[0]
	switch name {
	case "status":
		if f.Status = domain.Status(value); !slices.Contains(domain.Statuses, f.Status) {
			return invalidQuery("status must be one of queued, running, succeeded, dead and cancelled")
		}
	case "name":
		if f.Name = value; !domain.ValidName(value) {
			return invalidQuery("name must be a job name")
		}
	case "limit":
		limit, err := strconv.ParseUint(value, 10, 8)
		if err != nil || limit < 1 || limit > jobs.MaxPage {
			return invalidQuery("limit must be 1 to %d", jobs.MaxPage)
		}
		f.Limit = int(limit)
	case "cursor":
		cursor, ok := parseCursor(value)
		if !ok {
			return invalidQuery("cursor must be the next_cursor of another page")
		}
		f.After = cursor
	}
	return nil
}
