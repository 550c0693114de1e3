package server

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/jobgate/jobgate/adapters/opentelemetry"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/config/service"
)

// Tracing are the settings of traces, by OpenTelemetry's own names
// (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).
type Tracing struct {
	Endpoint string // that spans are posted to; empty: there is no tracing
	Headers  map[string]config.Secret
	Service  string
	Sampler  string
	Ratio    float64
}

// loadTracing reads the settings where one of them says where traces go, and nothing else.
func loadTracing(env *config.Env) Tracing {
	endpoint := tracesEndpoint(env)
	if endpoint == "" {
		return Tracing{}
	}
	either(env, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL", func(name string) {
		env.OneOf(name, "http/protobuf")
	})
	t := Tracing{
		Endpoint: endpoint, Headers: map[string]config.Secret{}, Service: env.String("OTEL_SERVICE_NAME", "jobgate"),
		Sampler: env.OneOf("OTEL_TRACES_SAMPLER", opentelemetry.Samplers...), Ratio: 1,
	}
	if arg := env.String("OTEL_TRACES_SAMPLER_ARG", ""); arg != "" {
		ratio, err := strconv.ParseFloat(arg, 64)
		if err != nil || !(ratio >= 0 && ratio <= 1) { // NaN too
			env.Wrong("OTEL_TRACES_SAMPLER_ARG", "0.1", "%q is no number from 0 to 1", arg)
		}
		t.Ratio = ratio
	}
	either(env, "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS", func(setting string) {
		const example = "authorization=Bearer%20abc"
		for i, pair := range env.Secrets(setting, example) {
			name, value, ok := strings.Cut(string(pair), "=")
			name = strings.TrimSpace(name)
			value, err := url.PathUnescape(strings.TrimSpace(value))
			if !ok || err != nil || !isToken(name) || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c == 0x7f }) {
				env.Wrong(setting, example, "element %d is no header's name, =, and its value, percent-encoded", i+1)
				continue
			}
			t.Headers[name] = config.Secret(value)
		}
	})
	return t
}

// either reads the setting for traces alone where it is set, and the one for every signal otherwise.
func either(env *config.Env, traces, all string, read func(name string)) {
	if env.String(traces, "") != "" {
		read(traces)
	} else {
		read(all)
	}
}

// tracesEndpoint returns the URL for traces: a setting's own, or what belongs to the one for every signal.
func tracesEndpoint(env *config.Env) (endpoint string) {
	const traces, all = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"
	either(env, traces, all, func(name string) {
		endpoint = env.String(name, "")
		if endpoint == "" {
			return
		}
		u, err := url.Parse(endpoint)
		switch {
		case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
			env.Wrong(name, "http://127.0.0.1:4318", "is no http or https URL")
		case u.User != nil:
			env.Wrong(name, "https://collector.example.com", "has credentials in it: they belong in OTEL_EXPORTER_OTLP_HEADERS")
		case name == all:
			endpoint = u.JoinPath("v1", "traces").String()
		}
	})
	return endpoint
}

// isToken reports whether s is a token (RFC 9110 §5.6.2), as a header's name is.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", c))
	})
}

// trace has spans made from here on, where the settings say where to.
func (s *server) trace(cfg Tracing, pattern func(string) string) {
	if cfg.Endpoint == "" {
		return
	}
	headers := map[string]string{}
	for name, value := range cfg.Headers {
		headers[name] = string(value)
	}
	s.tracing = opentelemetry.New(opentelemetry.Options{
		Endpoint: cfg.Endpoint, Headers: headers, Service: cfg.Service, Version: config.Version(),
		Sampler: cfg.Sampler, Ratio: cfg.Ratio, Pattern: pattern, Report: s.report("traces"),
	})
	s.closers = append(s.closers, s.tracing.Close)
}

// scrape has the metrics served at an address of their own, where there is one.
func (s *server) scrape(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("METRICS_ADDR: %w", err)
	}
	s.closers = append(s.closers, func() error {
		_ = listener.Close() // usually closed by its server already
		return nil
	})
	s.scraped = listener.Addr().String()
	s.Parts = append(s.Parts, service.Serve(listener, s.metrics.Scrape(), s.Log))
	return nil
}
