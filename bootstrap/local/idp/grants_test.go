package idp_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jobgate/jobgate/bootstrap/local/idp"
)

func TestRefreshTokensOutliveARestart(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	a := s.app("openid", "offline_access", "jobs:read")
	first := s.login(t, a, "alice")
	s.restart(t, false)
	second, err := refresh(t, a, first.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if claims := s.verify(t, second.AccessToken); claims["sub"] != "alice" || claims["scope"] != "openid offline_access jobs:read" {
		t.Errorf("claims = %v", claims)
	}
	idToken(t, second)

	// So does what is known of the used one.
	s.restart(t, true)
	for _, token := range []string{first.RefreshToken, second.RefreshToken} {
		_, err := refresh(t, a, token)
		if got := oauthError(t, err); got != "400 invalid_grant" {
			t.Errorf("after a reuse: %s", got)
		}
	}
	s.restart(t, false)
	if _, err := refresh(t, a, second.RefreshToken); err == nil {
		t.Error("the chain outlived its reuse with the next process")
	}
}

func TestRevocationAndExpiryOutliveARestart(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	a := s.app("offline_access")
	revoked, expired := s.login(t, a, "alice"), s.login(t, a, "alice")
	form := url.Values{"token": {revoked.RefreshToken}, "client_id": {idp.PublicClientID}}
	if p := newBrowser(t).post(s.issuer+"/revoke", form, nil); p.status != http.StatusOK {
		t.Fatalf("%d %s", p.status, p.body)
	}
	s.restart(t, false)
	if _, err := refresh(t, a, revoked.RefreshToken); oauthError(t, err) != "400 invalid_grant" {
		t.Errorf("revoked: %v", err)
	}
	s.ahead.Add(int64(24 * time.Hour))
	s.restart(t, false)
	if _, err := refresh(t, a, expired.RefreshToken); oauthError(t, err) != "400 invalid_grant" {
		t.Errorf("expired: %v", err)
	}
}

func TestRefreshTokensAreNotOnDiskAsTheyAre(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	_, secret, _ := strings.Cut(s.login(t, s.app("offline_access"), "alice").RefreshToken, ".")
	file := filepath.Join(s.dir, "grants.json")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if secret == "" || !strings.Contains(string(data), `"alice"`) || strings.Contains(string(data), secret) {
		t.Errorf("the file has the secret, or not the grant:\n%s", data)
	}
	if info, err := os.Stat(file); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A directory in place of the file cannot be replaced by one: it stands for a
// disk that is full.
func TestRefreshTokenThatCannotBeSavedIsNotGivenOut(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	a := s.app("offline_access")
	token := s.login(t, a, "alice")
	file := filepath.Join(s.dir, "grants.json")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := refresh(t, a, token.RefreshToken)
	if got := oauthError(t, err); got != "500 server_error" {
		t.Errorf("refresh: %s", got)
	}
	form := url.Values{"token": {token.RefreshToken}, "client_id": {idp.PublicClientID}}
	other := s.app("offline_access")
	_, err = s.exchange(t, other, "bob")
	if got := oauthError(t, err); got != "500 server_error" {
		t.Errorf("login: %s", got)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := refresh(t, a, token.RefreshToken); err != nil {
		t.Errorf("the token before is lost: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	if p := newBrowser(t).post(s.issuer+"/revoke", form, nil); p.status != http.StatusInternalServerError {
		t.Errorf("revocation: %d %s", p.status, p.body)
	}
}

func TestDamagedGrantsAreRefusedAndLeftAlone(t *testing.T) {
	t.Parallel()
	for name, damaged := range map[string]string{
		"empty": "", "no list": "{}", "a null": "[null]", "unknown member": `[{"more": 1}]`, "short secret": `[{"secret": "AAAA"}]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "grants.json")
			if err := os.WriteFile(file, []byte(damaged), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := idp.New(idp.Options{Issuer: "http://127.0.0.1:8080", Dir: filepath.Dir(file), Audience: audience})
			if err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("err = %v", err)
			}
			if after, err := os.ReadFile(file); err != nil || string(after) != damaged {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}
