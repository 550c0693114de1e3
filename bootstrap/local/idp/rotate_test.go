package idp_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/jobgate/jobgate/bootstrap/local/idp"
)

// kids are the ids of the published keys.
func kids(t *testing.T, provider http.Handler, issuer string) []string {
	t.Helper()
	w := httptest.NewRecorder()
	provider.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, issuer+"/keys", http.NoBody))
	var set struct {
		Keys []struct{ Kid, Alg, D string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, key := range set.Keys {
		if key.Alg != "RS256" || key.D != "" {
			t.Errorf("key = %+v", key)
		}
		ids = append(ids, key.Kid)
	}
	return ids
}

func kid(t *testing.T, token string) string {
	t.Helper()
	parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	id, _ := parsed.Header["kid"].(string)
	return id
}

func TestRotatedKeysAreBothPublishedUntilTheOldTokensHaveExpired(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	token := s.login(t, s.app("openid"), "alice").AccessToken
	s.restart(t, true)
	if claims := s.verify(t, token); claims["sub"] != "alice" {
		t.Errorf("the old token's claims are %v", claims)
	}
	fresh := s.login(t, s.app("openid"), "alice").AccessToken
	s.verify(t, fresh)
	if kid(t, fresh) == kid(t, token) {
		t.Error("the key did not change")
	}
	if keys := kids(t, s.Handler(), s.issuer); len(keys) != 2 || keys[0] != kid(t, fresh) || keys[1] != kid(t, token) {
		t.Errorf("published are %v, want the new key and the old one", keys)
	}
	s.ahead.Add(int64(15*time.Minute + time.Second))
	if keys := kids(t, s.Handler(), s.issuer); len(keys) != 2 {
		t.Errorf("as the last token expires, published are %v", keys)
	}
	s.ahead.Add(int64(5 * time.Minute))
	if keys := kids(t, s.Handler(), s.issuer); len(keys) != 1 || keys[0] != kid(t, fresh) {
		t.Errorf("afterwards, published are %v", keys)
	}
}

func TestRotationOfAnEmptyDirectoryAndTwiceInARow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now()
	for n, want := range []int{1, 2, 3, 2, 1} {
		if n >= 3 {
			now = now.Add(time.Hour)
		}
		p, err := idp.New(idp.Options{
			Issuer: "http://127.0.0.1:8080", Dir: dir, Audience: audience, RotateKeys: n < 4, Now: func() time.Time { return now },
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := kids(t, p.Handler(), "http://127.0.0.1:8080"); len(got) != want {
			t.Errorf("start %d: %d keys are published, want %d", n, len(got), want)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "provider.json"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(data), `"public_key"`); n != 1 {
		t.Errorf("%d retired keys are kept, want the last one", n)
	}
}
