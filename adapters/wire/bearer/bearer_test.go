package bearer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jobgate/jobgate/adapters/wire/bearer"
	"github.com/jobgate/jobgate/domain"
)

func TestTokenIsWhatFollowsTheScheme(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"Bearer abc":              "abc",
		"bearer abc":              "abc",
		"BEARER abc":              "abc",
		"Bearer    abc":           "abc",
		" \tBearer abc \t":        "abc",
		"Bearer a.b-c_d~e+f/9":    "a.b-c_d~e+f/9",
		"Bearer YQ==":             "YQ==",
		"Bearer eyJhbGciOiJub.e.": "eyJhbGciOiJub.e.",
	} {
		if got, err := bearer.Token(header); err != nil || got != want {
			t.Errorf("%q: token %q, %v, want %q", header, got, err, want)
		}
	}
}

func TestTokenRefusesOtherCredentials(t *testing.T) {
	t.Parallel()
	tests := map[domain.Reason][]string{
		domain.ReasonMissingToken: {"", " ", "Basic dXNlcjpwYXNz", "Bearerabc", "abc", "Bearer,abc", "Bearer\tabc", "DPoP abc", "Bearеr abc"},
		domain.ReasonInvalidToken: {
			"Bearer", "Bearer ", "Bearer  ", "Bearer a b", "Bearer a,b", "Bearer abc, Bearer abc", "Bearer =", "Bearer a=b",
			"Bearer \tabc", `Bearer "abc"`, `Bearer realm="x"`, "Bearer é", "Bearer a\x00b", "Bearer a\r\nX: y", "Bearer a%20b",
		},
	}
	for reason, headers := range tests {
		for _, header := range headers {
			got, err := bearer.Token(header)
			if got != "" || domain.KindOf(err) != domain.Unauthenticated || domain.ReasonOf(err) != reason {
				t.Errorf("%q: token %q, error %v (%s), want Unauthenticated and %s", header, got, err, domain.ReasonOf(err), reason)
			}
		}
	}
}

func TestChallengeSaysWhatToDoAboutARefusal(t *testing.T) {
	t.Parallel()
	unauthenticated := func(reason domain.Reason) error {
		return domain.Wrap(errors.New("kid 7"), domain.Unauthenticated, reason, "secret")
	}
	lacking := func(scopes ...string) error {
		return &domain.Error{Kind: domain.Forbidden, Reason: domain.ReasonInsufficientScope, Scopes: scopes}
	}
	tests := map[string]struct {
		err  error
		want string
	}{
		"no token":          {unauthenticated(domain.ReasonMissingToken), `Bearer realm="jobgate"`},
		"invalid":           {unauthenticated(domain.ReasonInvalidToken), `Bearer realm="jobgate", error="invalid_token", error_description="the token is not valid"`},
		"expired":           {unauthenticated(domain.ReasonTokenExpired), `Bearer realm="jobgate", error="invalid_token", error_description="the token has expired"`},
		"claims":            {unauthenticated(domain.ReasonInvalidClaims), `Bearer realm="jobgate", error="invalid_token", error_description="the token is not meant for this service"`},
		"signature":         {unauthenticated(domain.ReasonInvalidSignature), `Bearer realm="jobgate", error="invalid_token", error_description="the token has no valid signature"`},
		"unknown reason":    {unauthenticated(""), `Bearer realm="jobgate", error="invalid_token", error_description="the token is not valid"`},
		"scope":             {lacking("jobs:submit"), `Bearer realm="jobgate", error="insufficient_scope", scope="jobs:submit"`},
		"scopes":            {lacking("a", "b/c"), `Bearer realm="jobgate", error="insufficient_scope", scope="a b/c"`},
		"scope in quotes":   {lacking(`a", x="y`, `b\`, "c d", "é", "", "e"), `Bearer realm="jobgate", error="insufficient_scope", scope="e"`},
		"no scope":          {lacking(), `Bearer realm="jobgate", error="insufficient_scope"`},
		"forbidden":         {domain.Errorf(domain.Forbidden, domain.ReasonForbidden, ""), ""},
		"no refusal":        {domain.Errorf(domain.Unavailable, domain.ReasonKeysUnavailable, ""), ""},
		"unclassified":      {errors.New("x"), ""},
		"no error":          {nil, ""},
		"wrapped by others": {errors.Join(errors.New("x"), unauthenticated(domain.ReasonMissingToken)), `Bearer realm="jobgate"`},
	}
	for name, tt := range tests {
		if got := bearer.Challenge(tt.err); got != tt.want {
			t.Errorf("%s:\n\t%s\nwant\n\t%s", name, got, tt.want)
		}
	}
}

func FuzzToken(f *testing.F) {
	for _, seed := range []string{"", "Bearer abc", "bearer  YQ==", "Basic abc", "Bearer a b", "Bearer\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		token, err := bearer.Token(header)
		if err != nil {
			if token != "" || domain.KindOf(err) != domain.Unauthenticated {
				t.Errorf("%q: token %q with error %v", header, token, err)
			}
			return
		}
		if token == "" || strings.ContainsAny(token, " ,\t\r\n\"") || !strings.HasSuffix(strings.TrimRight(header, " \t"), token) {
			t.Errorf("%q: token %q", header, token)
		}
		if again, err := bearer.Token("Bearer " + token); err != nil || again != token {
			t.Errorf("%q is read as %q, %v when sent again", token, again, err)
		}
	})
}
