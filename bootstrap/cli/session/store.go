package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxFile bounds a profile's file, in bytes: an answer of the issuer, sealed and in base64, and the settings.
	maxFile  = 128 << 10
	lockWait = 45 * time.Second // longer than a refresh may take
	lockPoll = 20 * time.Millisecond
)

// How a profile is logged in.
const (
	grantCode   = "authorization_code"
	grantDevice = "device_code"
	grantClient = "client_credentials"
	grantToken  = "token" // given on standard input
)

// A record is a profile's file.
type record struct {
	Server       string   `json:"server"`
	Issuer       string   `json:"issuer,omitzero"`
	ClientID     string   `json:"client_id,omitzero"`
	Audience     string   `json:"audience,omitzero"`
	Scopes       []string `json:"scopes,omitempty"`
	RedirectHost string   `json:"redirect_host,omitzero"`
	RedirectPort int      `json:"redirect_port,omitzero"`
	Grant        string   `json:"grant,omitzero"`
	SecretFile   string   `json:"client_secret_file,omitzero"`

	// One of the two, or none when logged out.
	Plain  tokens `json:"tokens,omitzero"`
	Sealed []byte `json:"sealed,omitempty"`
}

// tokens are what a login came to.
type tokens struct {
	Access   string    `json:"access_token"`
	Refresh  string    `json:"refresh_token,omitzero"`
	Subject  string    `json:"subject,omitzero"` // of the ID token
	Obtained time.Time `json:"obtained,omitzero"`
	Expires  time.Time `json:"expires,omitzero"` // by this machine's clock; zero: the issuer does not say
}

// fresh reports whether the access token will do for a call that begins now.
func (t tokens) fresh(now time.Time) bool {
	if t.Access == "" {
		return false
	}
	return t.Expires.IsZero() || now.Before(t.Expires.Add(-min(earlier, t.Expires.Sub(t.Obtained)/4)))
}

func (r record) loggedIn() bool { return r.Plain.Access != "" || len(r.Sealed) > 0 }

func (r record) profile(name string) Profile {
	return Profile{
		Name: name, Server: r.Server, Issuer: r.Issuer, ClientID: r.ClientID, Audience: r.Audience, Scopes: r.Scopes,
		RedirectHost: r.RedirectHost, RedirectPort: r.RedirectPort,
	}
}

// configDir is os.UserConfigDir of an environment that was handed over.
func configDir(getenv func(string) string) (string, error) {
	if dir := getenv("JOBGATE_CONFIG_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	var dir, needs string
	home := getenv("HOME")
	switch runtime.GOOS {
	case "windows":
		dir, needs = getenv("AppData"), "%AppData%"
	case "darwin":
		dir, needs = filepath.Join(home, "Library", "Application Support"), "$HOME"
	default:
		needs = "$XDG_CONFIG_HOME or $HOME"
		if dir = getenv("XDG_CONFIG_HOME"); dir == "" {
			dir = filepath.Join(home, ".config")
		}
	}
	if !filepath.IsAbs(dir) {
		return "", invalid("there is no place for it: set JOBGATE_CONFIG_DIR, or %s", needs)
	}
	return filepath.Join(dir, "jobgate"), nil
}

// A store is the file of one profile.
type store struct{ dir, name string }

func (s store) file() string { return filepath.Join(s.dir, s.name+".json") }

// load returns the zero record when there is no file.
func (s store) load() (record, error) {
	var r record
	text, err := os.ReadFile(s.file())
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		// The parser's words quote the text, which holds tokens.
		return record{}, invalid("%s is damaged: remove it and log in again", s.file())
	}
	return r, nil
}

// lock keeps other processes from changing the profile, until unlock. It waits for them, but not for ever.
func (s store) lock(ctx context.Context) (release func(), err error) {
	if err := s.prepare(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(s.dir, s.name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, lockWait, fmt.Errorf("another jobgate has the profile %q locked since %v", s.name, lockWait))
	defer cancel()
	for {
		err := flock(f)
		if err == nil {
			return func() {
				_ = unlock(f) // closing it does as well
				f.Close()
			}, nil
		}
		if errors.Is(err, errLocked) {
			if err = sleep(ctx, lockPoll); err == nil {
				continue
			}
			err = context.Cause(ctx)
		}
		f.Close()
		return nil, fmt.Errorf("lock the profile: %w", err)
	}
}

func (s store) prepare() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(s.dir)
	if err == nil && info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		err = os.Chmod(s.dir, 0o700) //nolint:gosec // G302: a directory needs its x bit
	}
	return err
}

// A place is room on the disk for a profile's next file.
type place struct {
	store store
	tmp   *os.File
}

// reserve takes the room that the largest file needs, so that a full disk is found now and not later. It is for who has
// the lock.
func (s store) reserve() (*place, error) {
	os.Remove(s.file() + ".new") // it may be left of a process that was killed
	tmp, err := os.OpenFile(s.file()+".new", os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("no room for new tokens: %w", err)
	}
	p := &place{s, tmp}
	if _, err = tmp.Write(make([]byte, maxFile)); err == nil {
		err = tmp.Sync()
	}
	if err != nil {
		p.discard()
		return nil, fmt.Errorf("no room for new tokens: %w", err)
	}
	return p, nil
}

// fill puts r in the profile's place, such that a crash leaves either the old file or the new.
func (p *place) fill(r record) error {
	text, err := json.Marshal(r, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if len(text) > maxFile {
		return fmt.Errorf("the profile's file would be larger than %d KiB", maxFile>>10)
	}
	if _, err = p.tmp.WriteAt(text, 0); err == nil {
		err = p.tmp.Truncate(int64(len(text)))
	}
	if err == nil {
		err = p.tmp.Sync()
	}
	if err := errors.Join(err, p.tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(p.tmp.Name(), p.store.file()); err != nil {
		return err
	}
	p.tmp = nil
	return p.store.sync()
}

// discard gives the room back, unless it was filled.
func (p *place) discard() {
	if p.tmp != nil {
		p.tmp.Close()
		os.Remove(p.tmp.Name())
	}
}

// sync has the directory's entries on disk.
func (s store) sync() error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// save writes r with the tokens t.
func (p *place) save(r record, t tokens, b *box) error {
	var err error
	if r.Plain, r.Sealed = t, nil; b != nil {
		r.Plain = tokens{}
		r.Sealed, err = b.seal(t)
	}
	if err == nil {
		err = p.fill(r)
	}
	if err != nil {
		return fmt.Errorf("the new tokens could not be saved: %w", err)
	}
	return nil
}

// forget removes the tokens from r's file, or the file where that is all that can be done.
func (s *Session) forget(r record) error {
	if len(r.Sealed) > 0 {
		_ = s.keyring.remove(s.keyName()) // it seals nothing any more
	}
	r.Plain, r.Sealed = tokens{}, nil
	p, err := s.store.reserve()
	if err == nil {
		defer p.discard()
		err = p.fill(r)
	}
	if err != nil {
		if err := os.Remove(s.store.file()); err != nil {
			return fmt.Errorf("the tokens could not be removed: %w", err)
		}
		return s.store.sync()
	}
	return nil
}
