package localgateway

import (
	"cmp"
	"hash/fnv"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/jobgate/jobgate/domain"
)

// A resource is a route as API Gateway keeps it.
type resource struct {
	domain.Route
	segments []string
}

// id is the resource's id in events: any stable short name will do.
func (r *resource) id() string {
	h := fnv.New64a()
	h.Write([]byte(r.Pattern))
	return strconv.FormatUint(h.Sum64(), 36)[:6]
}

// newResources orders routes so that the first match is the right one: a literal segment comes before a parameter.
func newResources(routes []domain.Route) []resource {
	var out []resource
	for _, r := range routes {
		out = append(out, resource{Route: r, segments: strings.Split(strings.TrimPrefix(r.Pattern, "/"), "/")})
	}
	slices.SortStableFunc(out, func(a, b resource) int {
		return slices.CompareFunc(a.segments, b.segments, func(s, t string) int {
			return cmp.Compare(isParameter(s), isParameter(t))
		})
	})
	return out
}

func isParameter(segment string) int {
	if strings.HasPrefix(segment, "{") {
		return 1
	}
	return 0
}

// split returns the segments of an escaped path, a trailing slash ignored, and nil for a path that cleaning would
// change: nothing of ours is there.
func split(path string) []string {
	path, rooted := strings.CutPrefix(path, "/")
	if !rooted {
		return nil
	}
	segments := strings.Split(strings.TrimSuffix(path, "/"), "/")
	for _, s := range segments {
		if decoded, err := url.PathUnescape(s); err != nil || decoded == "." || decoded == ".." || decoded == "" && len(segments) > 1 {
			return nil
		}
	}
	return segments
}

// match returns the parameters, URL-decoded as API Gateway passes them on, when segments are one of r's paths. Literal
// segments are compared as they were sent, case and escapes included.
func (r *resource) match(segments []string) (map[string]string, bool) {
	if len(segments) != len(r.segments) {
		return nil, false
	}
	var parameters map[string]string
	for i, s := range segments {
		if isParameter(r.segments[i]) == 0 {
			if s != r.segments[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(s)
		if err != nil || value == "" {
			return nil, false
		}
		if parameters == nil {
			parameters = make(map[string]string)
		}
		parameters[strings.Trim(r.segments[i], "{}")] = value
	}
	return parameters, true
}
