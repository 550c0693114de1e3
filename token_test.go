package jobgate_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/jobgate/jobgate/adapters/adaptertest"
	"github.com/jobgate/jobgate/adapters/apigateway"
	"github.com/jobgate/jobgate/adapters/localgateway"
	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
	"github.com/jobgate/jobgate/domain"
)

// Every token of oidctest's tables where it is attacked: at the artefact that is deployed, and over HTTP at a gateway in
// front of it, as authorizer of either type. What the verifier says of a token decides what the gate has to do.
func TestTokensAtTheGate(t *testing.T) {
	t.Parallel()
	artefact := adaptertest.BuildFunction(t, "auth")
	lab := oidctest.NewLab(time.Now())
	for _, issuer := range []*oidctest.Issuer{lab.A, lab.B, lab.C} {
		server := httptest.NewServer(issuer)
		t.Cleanup(server.Close)
		issuer.URL = server.URL
	}
	for _, table := range lab.Tables() {
		t.Run(table.Name, func(t *testing.T) {
			t.Parallel()
			g := newTokenGate(t, table, start(t, artefact, tableSettings(t, table)))
			for _, token := range table.Tokens {
				g.judge(t, token)
				g.invoke(t, token, lambdaEvent(t, "authorizer-token.json", "authorizationToken", "Bearer "+token.Raw))
				g.invoke(t, token, lambdaEvent(t, "authorizer-request.json",
					"headers.Authorization", "Bearer "+token.Raw, "multiValueHeaders.Authorization", []string{"Bearer " + token.Raw}))
				for _, address := range g.addresses {
					g.send(t, token, address)
				}
			}
			g.wantLog(t)
		})
	}
}

// grantRead lets every verified caller list jobs, so that a token's verdict is all that counts, and names the scopes that
// are to reach the function behind the gate.
const grantRead = `{"rules":[{"effect":"allow","actions":["read"]},{"effect":"allow","scopes":["jobs:read"],"actions":["read"]},
	{"effect":"allow","scopes":["jobs:submit"],"actions":["submit"]}]}`

// tableSettings are the settings of a program that are those of the table.
func tableSettings(t *testing.T, table oidctest.Table) map[string]string {
	t.Helper()
	env := map[string]string{"LOG_LEVEL": "debug", "ACCESS_POLICY": grantRead}
	if s := table.Secret; s != nil {
		env["JWT_SECRET"], env["JWT_REQUIRE"] = strings.Join(s.Secrets, ","), strings.Join(s.Require, ",")
		env["OIDC_AUDIENCE"], env["OIDC_LEEWAY"] = strings.Join(s.Audience, ","), s.Leeway.String()
		return env
	}
	var providers []map[string]any
	for _, i := range table.Issuers {
		providers = append(providers, map[string]any{
			"issuer": i.Issuer, "audience": i.Audience, "client_ids": i.ClientIDs, "algorithms": i.Algorithms, "typ": i.Types,
			"scope_prefix": i.ScopePrefix, "accept_id_tokens": i.AcceptIDTokens, "leeway": i.Leeway.String(), "max_token": i.MaxToken,
		})
	}
	text, err := json.Marshal(providers)
	if err != nil {
		t.Fatal(err)
	}
	env["OIDC_PROVIDERS"] = string(text)
	return env
}

// A tokenGate is a verifier in this process, an artefact with the same settings, and two gateways in front of that.
type tokenGate struct {
	table     oidctest.Table
	verifier  *oidc.Verifier
	auth      *adaptertest.Function
	addresses []string // of the gateways

	mu      sync.Mutex
	served  []domain.Principal // for whom the function behind the gate was called since it was last asked
	who     domain.Principal   // as the verifier has it
	reasons []string           // that the artefact's log has to have
	refusal string             // what every refused client gets
}

func newTokenGate(t *testing.T, table oidctest.Table, auth *adaptertest.Function) *tokenGate {
	t.Helper()
	g := &tokenGate{table: table, auth: auth}
	var err error
	if g.verifier, err = table.Verifier(oidc.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.verifier.Close() })
	behind := apigateway.NewProxy(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := apigateway.Principal(r)
		if err != nil {
			t.Error(err)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.served = append(g.served, who)
		w.WriteHeader(http.StatusNoContent)
	}), func(_ context.Context, err error) { t.Error(err) })
	for _, kind := range []string{"TOKEN", "REQUEST"} {
		gateway, err := localgateway.New(localgateway.Options{
			Authorizer: invoked(auth), Integration: behind.Invoke, Routes: domain.Routes, AuthorizerType: kind,
			Log: func(_ context.Context, line localgateway.Access) {
				if line.Err != nil {
					t.Errorf("the gateway's log: %v", line.Err)
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(gateway)
		t.Cleanup(server.Close)
		g.addresses = append(g.addresses, server.Listener.Addr().String())
	}
	return g
}

// judge asks the verifier, and keeps what the function behind the gate is to be told of the caller.
func (g *tokenGate) judge(t *testing.T, token oidctest.Token) {
	t.Helper()
	if _, err := g.verifier.Verify(t.Context(), strings.Trim(token.Raw, " ")); reasonOf(err) != atGate(token) {
		t.Errorf("%s: the verifier says %v, want %q (%s)", token.Name, err, atGate(token), token.Source)
	}
	who, _ := g.verifier.Verify(t.Context(), strings.Trim(token.Raw, " \n")) // as it comes out of a header, see send
	who.Scopes = slices.DeleteFunc(who.Scopes, func(s string) bool { return s != "jobs:read" && s != "jobs:submit" })
	if len(who.Scopes) == 0 {
		who.Scopes = nil
	}
	who.ExpiresAt = who.ExpiresAt.Truncate(time.Millisecond)
	g.who = who
}

func reasonOf(err error) domain.Reason {
	if err == nil {
		return ""
	}
	return domain.ReasonOf(err)
}

// atGate is the verdict on a token that came in a header field, where spaces around a value are no part of it (RFC 9110
// §5.5).
func atGate(token oidctest.Token) domain.Reason {
	if strings.Trim(token.Raw, " ") != token.Raw {
		return ""
	}
	return token.Want
}

// invoke hands the artefact an authorizer event with the token.
func (g *tokenGate) invoke(t *testing.T, token oidctest.Token, event []byte) {
	t.Helper()
	want := atGate(token)
	g.reasons = append(g.reasons, string(want))
	if want != "" {
		if message := refused(t, g.auth, event); message != "Unauthorized" {
			t.Errorf("%s: the artefact's error is %q, want Unauthorized: only that becomes a 401 (%s)", token.Name, message, token.Source)
		}
		return
	}
	var answer struct {
		PolicyDocument jsontext.Value `json:"policyDocument"`
	}
	if err := json.Unmarshal([]byte(answered(t, g.auth, event)), &answer); err != nil {
		t.Fatalf("%s: %v", token.Name, err)
	}
	policy, err := localgateway.ParsePolicy(answer.PolicyDocument)
	if err != nil || !policy.Allows("execute-api:Invoke", "arn:aws:execute-api:us-east-1:123456789012:abcdef123/prod/GET/jobs") {
		t.Errorf("%s: the artefact's policy refuses what everybody may do (%s): %v\n%s", token.Name, token.Source, err, answer.PolicyDocument)
	}
}

// changing are the parts of a response that are another's each time and say nothing of the token.
var changing = regexp.MustCompile(`(?m)^(Date|X-Amz-Apigw-Id|X-Amzn-Requestid): .*\n|"request_id":"[^"]*"`)

// send writes the token into a request as an attacker would, who keeps to no client's rules.
func (g *tokenGate) send(t *testing.T, token oidctest.Token, address string) {
	t.Helper()
	head := "GET /jobs HTTP/1.1\r\nHost: " + address + "\r\nConnection: close\r\nAuthorization: Bearer " + token.Raw + "\r\n\r\n"
	want := http.StatusUnauthorized
	switch {
	case strings.ContainsAny(token.Raw, "\x00\r"):
		want = http.StatusBadRequest // no header field at all
	case len(head) > 10240:
		want = http.StatusRequestHeaderFieldsTooLarge
	case atGate(token) == "" || strings.HasSuffix(token.Raw, "\n"): // a bare line feed ends a field too (RFC 9112 §2.2)
		want = http.StatusNoContent
		g.reasons = append(g.reasons, "")
	default:
		g.reasons = append(g.reasons, string(token.Want))
	}

	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(functionTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatalf("%s: %v", token.Name, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s: %v", token.Name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", token.Name, err)
	}
	if resp.StatusCode != want {
		t.Errorf("%s: %s, want %d (%s)\n%s", token.Name, resp.Status, want, token.Source, body)
	}
	g.wantServed(t, token, want)
	if want == http.StatusUnauthorized {
		g.wantRefusal(t, token, resp, body)
	} else if want != http.StatusNoContent && strings.Contains(string(body), token.Raw) {
		t.Errorf("%s: the answer repeats the token", token.Name)
	}
}

// wantServed checks that the function behind the gate was called when it should be, and for whom.
func (g *tokenGate) wantServed(t *testing.T, token oidctest.Token, status int) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	var want []domain.Principal
	if status == http.StatusNoContent {
		want = append(want, g.who)
	}
	if diff := cmp.Diff(want, g.served); diff != "" {
		t.Errorf("%s: behind the gate the caller is not whom the token names (-want +got):\n%s", token.Name, diff)
	}
	g.served = nil
}

// wantRefusal checks that a refused client is told nothing: the answer is the same for every token, to the last byte.
func (g *tokenGate) wantRefusal(t *testing.T, token oidctest.Token, resp *http.Response, body []byte) {
	t.Helper()
	var header strings.Builder
	if err := resp.Header.Write(&header); err != nil {
		t.Fatal(err)
	}
	answer := changing.ReplaceAllString(header.String()+"\n"+string(body), "")
	if g.refusal == "" {
		g.refusal = answer
		for _, part := range []string{"Content-Type: application/problem+json", "Www-Authenticate: Bearer", `"code":"unauthorized"`, `"status":401`} {
			if !strings.Contains(answer, part) {
				t.Errorf("%s: the answer has no %s\n%s", token.Name, part, answer)
			}
		}
	}
	if diff := cmp.Diff(g.refusal, answer); diff != "" {
		t.Errorf("%s: the answer is not that to every refused token (-others +this):\n%s", token.Name, diff)
	}
}

// wantLog checks that the artefact's log has the reason of each decision, in turn, and nothing of any token.
func (g *tokenGate) wantLog(t *testing.T) {
	t.Helper()
	var reasons []string
	for _, line := range logged(t, g.auth) {
		if line.DecisionID != "" {
			reasons = append(reasons, line.Reason)
		}
	}
	if diff := cmp.Diff(g.reasons, reasons); diff != "" {
		t.Errorf("the artefact's log has other reasons (-want +got):\n%s", diff)
	}
	var log strings.Builder
	for line := range strings.Lines(g.auth.Stderr()) {
		// What is wrong with a key says something of the issuer, which the settings name, and nothing of a token.
		if !strings.Contains(line, `"message":"a key of the issuer was skipped"`) {
			log.WriteString(line)
		}
	}
	words := []string{
		oidctest.Subject, oidctest.Client, oidctest.Audience, "token-1", "attacker", "other", "nobody", "jndi",
		"://", "base64", "json", "jwt", "crypto", "keyfunc", "malformed",
	}
	for _, token := range g.table.Tokens {
		for part := range strings.SplitSeq(token.Raw, ".") {
			if len(part) > 16 {
				words = append(words, part)
			}
		}
	}
	wantUntold(t, log.String(), words...)
}
