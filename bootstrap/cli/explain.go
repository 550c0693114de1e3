package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/jobgate/jobgate/adapters/apigateway"
	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/wire/bearer"
	"github.com/jobgate/jobgate/bootstrap/config"
	"github.com/jobgate/jobgate/bootstrap/config/tokens"
	"github.com/jobgate/jobgate/domain"
	"github.com/jobgate/jobgate/domain/access"
)

// exampleMethod stands for the deployment in the policy that is shown; the one of a call is in its event.
const exampleMethod = "arn:aws:execute-api:eu-west-1:123456789012:abcdef1234/prod/GET/jobs"

// Refused is the error of a command whose answer is no, or cannot be had.
type Refused string //nolint:errname // read aloud at the call site: cli.Refused

func (r Refused) Error() string { return string(r) }

func (t terminal) explain() *cobra.Command {
	var method, target, output string
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Explain what the gate makes of a token",
		Long: `Explain reads a token from standard input, with or without "Bearer ", and prints what the gate makes of it under the
settings in the environment: each check of the token, in order, which rule decides about each route, and the IAM policy
that API Gateway is given. After a check that failed it goes on, as far as there is something left to judge.

It exits with 0 when the token is let in, to the given route or to any, with 1 when not, and with 2 when there was no
token, or something is wrong with the command line or the settings. It never prints the token or its signature.`,
		Example: `  jobgate explain <token.txt
  echo "$TOKEN" | OIDC_ISSUER=https://id.example.com/ OIDC_AUDIENCE=jobgate jobgate explain
  jobgate explain --method POST --path /jobs <token.txt
  jobgate explain -o json <token.txt | jq .verdict`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (method == "") != (target == "") {
				return misuse(errors.New("--method and --path belong together"))
			}
			if output != "text" && output != "json" {
				return misuse(fmt.Errorf("--output %q is neither text nor json", output))
			}
			routes := domain.Routes
			if target != "" {
				route, err := routeOf(method, target)
				if err != nil {
					return misuse(err)
				}
				routes = []domain.Route{route}
			}
			r, err := t.judge(cmd.Context(), routes)
			if err != nil {
				return err
			}
			write := r.text
			if output == "json" {
				write = r.json
			}
			if err := write(t.stdout); err != nil {
				return err
			}
			if r.Verdict != allowed {
				return Refused(r.Verdict + ": " + r.Why)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&method, "method", "", "explain one route: its method")
	cmd.Flags().StringVar(&target, "path", "", "explain one route: a path like /jobs/0190b3a2-7c5e-7000-8000-000000000000")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text, or json for scripts")
	return cmd
}

// routeOf finds the route that serves a request, as the REST API does.
func routeOf(method, target string) (domain.Route, error) {
	mux := http.NewServeMux()
	served := make(map[string]domain.Route)
	var table strings.Builder
	for _, r := range domain.Routes {
		pattern := r.Method + " " + r.Pattern
		served[pattern] = r
		mux.Handle(pattern, http.NotFoundHandler())
		table.WriteString("\n  " + pattern)
	}
	u, err := url.ParseRequestURI(target)
	if err == nil && path.Clean(u.EscapedPath()) == u.EscapedPath() {
		_, pattern := mux.Handler(&http.Request{Method: strings.ToUpper(method), URL: u})
		if r, ok := served[pattern]; ok {
			return r, nil
		}
	}
	return domain.Route{}, fmt.Errorf("no route serves %s %q; there are:%s", strings.ToUpper(method), target, &table)
}

// judge has the token on standard input judged by the gate and the authorizer as they stand in front of the service.
func (t terminal) judge(ctx context.Context, routes []domain.Route) (*report, error) {
	env := config.From(t.getenv)
	settings := tokens.Load(env)
	policy := env.AccessPolicy(settings.Trusted())
	if err := env.Err(); err != nil {
		return nil, misuse(err)
	}
	gate := &access.Gate{Policy: policy}
	var answered apigateway.Decision
	authorizer, err := apigateway.NewAuthorizer(gate, domain.Routes, func(_ context.Context, d apigateway.Decision) { answered = d })
	if err != nil {
		return nil, misuse(err)
	}
	verifier, err := settings.Verifier(oidc.Options{Now: t.now, Log: t.note})
	if err != nil {
		return nil, misuse(err)
	}
	defer func() { _ = verifier.Close() }() // it never fails
	header, err := readHeader(ctx, t.stdin)
	if err != nil {
		return nil, err
	}

	r := &report{}
	token, err := bearer.Token(header)
	r.addCheck("bearer", err)
	explained := oidc.Explanation{Err: err}
	if err == nil {
		explained = verifier.Explain(ctx, token)
		r.addFindings(explained)
	}
	// The token was judged: what follows is asked about the verdict, and is handed no token.
	gate.Verifier = verdict(explained)
	who, err := gate.Enter(ctx, "")
	if explained.Err == nil {
		r.addCheck("deny list", err)
	}
	if err == nil {
		r.addPrincipal(who)
		if r.Policy, err = iamPolicy(ctx, authorizer); err != nil {
			return nil, err
		}
		if answered.Reason == domain.ReasonTooLarge {
			err = domain.Errorf(domain.Forbidden, domain.ReasonTooLarge, "the authorizer's answer would be too large, and so denies everything")
		}
		r.addCheck("answer", err)
	}
	decide := func(a domain.Action) domain.Decision { return gate.May(who, a) }
	if err != nil {
		decide = func(domain.Action) domain.Decision { return domain.Decision{Rule: -1, Reason: domain.ReasonOf(err)} }
	}
	r.addRoutes(routes, policy.Rules, decide)
	r.conclude(err)
	return r, nil
}

// A verdict is a ports.TokenVerifier that has made up its mind.
type verdict oidc.Explanation

func (v verdict) Verify(context.Context, string) (domain.Principal, error) { return v.Principal, v.Err }

// iamPolicy returns the policy document in the authorizer's answer.
func iamPolicy(ctx context.Context, authorizer *apigateway.Authorizer) (jsontext.Value, error) {
	event, err := json.Marshal(map[string]string{"type": "TOKEN", "authorizationToken": "Bearer judged", "methodArn": exampleMethod})
	if err != nil {
		return nil, err
	}
	answer, err := authorizer.Invoke(ctx, event)
	if err != nil {
		return nil, err
	}
	var parsed struct {
		Policy jsontext.Value `json:"policyDocument"`
	}
	return parsed.Policy, json.Unmarshal(answer, &parsed)
}

// note tells the operator what the verifier logs: keys that were skipped and fetches that failed.
func (t terminal) note(msg string, attrs ...slog.Attr) {
	for _, a := range attrs {
		msg += fmt.Sprintf(" %s=%q", a.Key, a.Value)
	}
	fmt.Fprintln(t.stderr, "note:", msg)
}

// readHeader reads a token and returns it as the value of an Authorization field.
func readHeader(ctx context.Context, stdin io.Reader) (string, error) {
	text, err := readAll(ctx, stdin)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, errTooMuch):
		return "", misuse(fmt.Errorf("standard input has more than %d bytes: that is no token", maxInput))
	case err != nil:
		return "", fmt.Errorf("standard input: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", misuse(errors.New("there is no token on standard input"))
	}
	if scheme, _, ok := strings.Cut(token, " "); ok && strings.EqualFold(scheme, "bearer") {
		return token, nil
	}
	return "Bearer " + token, nil
}
