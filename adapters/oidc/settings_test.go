package oidc_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jobgate/jobgate/adapters/oidc"
)

func TestSettingsThatAreRefused(t *testing.T) {
	t.Parallel()
	good := func() oidc.Issuer {
		return oidc.Issuer{Issuer: "https://issuer.example", Audience: []string{"a"}}
	}
	for name, c := range map[string]struct {
		change func(*oidc.Issuer)
		want   string
	}{
		"no issuer":                        {func(i *oidc.Issuer) { i.Issuer = "" }, "must be a URL"},
		"no URL":                           {func(i *oidc.Issuer) { i.Issuer = "issuer.example" }, "must be a URL"},
		"plain http":                       {func(i *oidc.Issuer) { i.Issuer = "http://issuer.example" }, "must be https"},
		"plain http, almost localhost":     {func(i *oidc.Issuer) { i.Issuer = "http://localhost.issuer.example" }, "must be https"},
		"plain http, a private address":    {func(i *oidc.Issuer) { i.Issuer = "http://10.0.0.1" }, "must be https"},
		"another scheme":                   {func(i *oidc.Issuer) { i.Issuer = "ftp://issuer.example" }, "must be https"},
		"a password":                       {func(i *oidc.Issuer) { i.Issuer = "https://me:secret@issuer.example" }, "must be a URL"},
		"a query":                          {func(i *oidc.Issuer) { i.Issuer += "?tenant=1" }, "no query"},
		"a template":                       {func(i *oidc.Issuer) { i.Issuer += "/{tenantid}/v2.0" }, "list the issuer of each tenant"},
		"no audience":                      {func(i *oidc.Issuer) { i.Audience = nil }, "audience or client ids"},
		"an empty audience":                {func(i *oidc.Issuer) { i.Audience = []string{""} }, "matches nothing"},
		"an empty client id":               {func(i *oidc.Issuer) { i.ClientIDs = []string{""} }, "matches nothing"},
		"ID tokens without a client":       {func(i *oidc.Issuer) { i.AcceptIDTokens = true }, "client ids are needed"},
		"none":                             {func(i *oidc.Issuer) { i.Algorithms = []string{"none"} }, `"none" is no algorithm`},
		"HS256":                            {func(i *oidc.Issuer) { i.Algorithms = []string{"RS256", "HS256"} }, `"HS256" is no algorithm`},
		"a key set twice":                  {func(i *oidc.Issuer) { i.JWKSURL, i.JWKSFile = "https://issuer.example/keys", "keys.json" }, "not from both"},
		"a plain key set":                  {func(i *oidc.Issuer) { i.JWKSURL = "http://issuer.example/keys" }, "JWKS URL must be https"},
		"a token of no bytes":              {func(i *oidc.Issuer) { i.MaxToken = -1 }, "max token"},
		"a token of more than 16 KiB":      {func(i *oidc.Issuer) { i.MaxToken = 16<<10 + 1 }, "max token"},
		"a leeway of hours":                {func(i *oidc.Issuer) { i.Leeway = time.Hour }, "leeway"},
		"a negative leeway":                {func(i *oidc.Issuer) { i.Leeway = -1 }, "leeway"},
		"a refresh each second":            {func(i *oidc.Issuer) { i.Refresh = time.Second }, "refresh"},
		"stale before they are refreshed":  {func(i *oidc.Issuer) { i.MaxStale = time.Minute }, "max stale"},
		"a scope claim without a name":     {func(i *oidc.Issuer) { i.ScopeClaims = []string{""} }, "must have a name"},
		"a type without a name":            {func(i *oidc.Issuer) { i.Types = []string{""} }, "must have a name"},
		"a claim to keep without its name": {func(i *oidc.Issuer) { i.KeepClaims = []string{""} }, "must have a name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := good()
			c.change(&i)
			if _, err := oidc.NewVerifier([]oidc.Issuer{i}, oidc.Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("NewVerifier: %v, want %q in it", err, c.want)
			}
		})
	}
	if _, err := oidc.NewVerifier(nil, oidc.Options{}); err == nil {
		t.Error("no issuer at all is accepted")
	}
	if _, err := oidc.NewVerifier([]oidc.Issuer{good(), good()}, oidc.Options{}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("an issuer twice: %v", err)
	}
	// Everything is reported at once.
	_, err := oidc.NewVerifier([]oidc.Issuer{{Issuer: "http://a.example"}, {Issuer: "http://b.example", Leeway: -1}}, oidc.Options{})
	for _, want := range []string{"issuer 1 (http://a.example)", "issuer 2 (http://b.example)", "audience", "leeway"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewVerifier: %v, want %q in it", err, want)
		}
	}
}

func TestSettingsThatAreAccepted(t *testing.T) {
	t.Parallel()
	for _, issuer := range []string{
		"https://issuer.example", "https://issuer.example/", "https://issuer.example:8443/tenant/v2.0",
		"http://localhost:9000", "http://127.0.0.1", "http://127.8.8.8:1", "http://[::1]:9000",
	} {
		newVerifier(t, oidc.Options{}, oidc.Issuer{Issuer: issuer, ClientIDs: []string{"c"}, Refresh: time.Minute, MaxStale: time.Minute, MaxToken: 16 << 10})
	}
}
