package idp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	stateFile = "provider.json"
	// keyBits is the least that RFC 7518 section 3.3 allows for RS256.
	keyBits = 2048
)

// state is what the provider keeps across restarts besides its grants, in one
// file so that it is replaced as a whole.
type state struct {
	SigningKey  []byte            `json:"signing_key"` // RSA, PKCS #8
	RetiredKeys []retiredKey      `json:"retired_keys,omitempty"`
	CryptoKey   []byte            `json:"crypto_key"` // 32 bytes, encrypts authorization codes
	Passwords   map[string]string `json:"passwords"`  // by user
	Secrets     map[string]string `json:"secrets"`    // by client

	signingKey *rsa.PrivateKey
}

// retiredKey is a key that signed tokens once. Its private half is gone.
type retiredKey struct {
	PublicKey []byte    `json:"public_key"` // PKIX
	Until     time.Time `json:"until"`      // when the last of its tokens has expired everywhere

	key *rsa.PublicKey
}

// retiredLife is how long a retired key is published: as long as a token lives,
// and then some for clocks that are behind.
const retiredLife = accessLife + 5*time.Minute

// openState reads the state in dir, makes what it lacks (all of it the first
// time, a new user's password later, a new signing key when the old one is to
// be retired) and writes it back if that was anything.
func openState(dir string, rotate bool, now time.Time) (*state, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// An older one may be open to others.
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // G302: a directory needs its x bit
		return nil, err
	}
	file := filepath.Join(dir, stateFile)
	st := &state{}
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(data, st, json.RejectUnknownMembers(true)); err != nil {
			return nil, fmt.Errorf("%s: %w; remove it to start with new keys and passwords", file, err)
		}
	}
	changed, err := st.complete(rotate, now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; remove it to start with new keys and passwords", file, err)
	}
	if changed {
		data, err := json.Marshal(st, json.Deterministic(true), jsontext.WithIndent("  "))
		if err != nil {
			return nil, err
		}
		if err := replaceFile(file, data); err != nil {
			return nil, err
		}
	}
	return st, nil
}

// retire keeps the public half of the signing key, if there is one, and leaves
// it to complete to make another. Retired keys that are of no more use go.
func (st *state) retire(now time.Time) error {
	st.RetiredKeys = slices.DeleteFunc(st.RetiredKeys, func(k retiredKey) bool { return !now.Before(k.Until) })
	if st.SigningKey == nil {
		return nil
	}
	if err := st.parse(); err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&st.signingKey.PublicKey)
	if err != nil {
		return err
	}
	st.RetiredKeys = append(st.RetiredKeys, retiredKey{PublicKey: public, Until: now.Add(retiredLife)})
	st.SigningKey = nil
	return nil
}

// parse reads the keys.
func (st *state) parse() error {
	key, err := x509.ParsePKCS8PrivateKey(st.SigningKey)
	if err != nil {
		return fmt.Errorf("signing_key: %w", err)
	}
	var ok bool
	if st.signingKey, ok = key.(*rsa.PrivateKey); !ok || st.signingKey.N.BitLen() < keyBits {
		return fmt.Errorf("signing_key is no RSA key of %d bits or more", keyBits)
	}
	for i := range st.RetiredKeys {
		key, err := x509.ParsePKIXPublicKey(st.RetiredKeys[i].PublicKey)
		if err != nil {
			return fmt.Errorf("retired_keys: %w", err)
		}
		if st.RetiredKeys[i].key, ok = key.(*rsa.PublicKey); !ok {
			return errors.New("retired_keys: one is no RSA key")
		}
	}
	return nil
}

// complete makes what is missing, says whether that was anything, and checks
// what is there.
func (st *state) complete(rotate bool, now time.Time) (changed bool, err error) {
	if rotate {
		if err := st.retire(now); err != nil {
			return false, err
		}
	}
	if st.SigningKey == nil {
		key, err := rsa.GenerateKey(rand.Reader, keyBits)
		if err != nil {
			return false, err
		}
		if st.SigningKey, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			return false, err
		}
		changed = true
	}
	if err := st.parse(); err != nil {
		return false, err
	}

	if st.CryptoKey == nil {
		st.CryptoKey = make([]byte, 32)
		rand.Read(st.CryptoKey)
		changed = true
	}
	if len(st.CryptoKey) != 32 {
		return false, errors.New("crypto_key is not 32 bytes")
	}

	var users []string
	for _, u := range demoUsers(nil) {
		users = append(users, u.Name)
	}
	newPasswords := fill(&st.Passwords, users)
	newSecrets := fill(&st.Secrets, []string{MachineClientID})
	return changed || newPasswords || newSecrets, nil
}

// fill gives a random secret to every name that has none. rand.Text is at least
// 128 bits in an alphabet that needs no escaping in a shell, a form or HTTP
// Basic.
func fill(secrets *map[string]string, names []string) (changed bool) {
	if *secrets == nil {
		*secrets = make(map[string]string)
	}
	for _, name := range names {
		if (*secrets)[name] == "" {
			(*secrets)[name] = rand.Text()
			changed = true
		}
	}
	return changed
}

// replaceFile puts data in file, readable by its owner only, such that a crash
// leaves either the old content or the new.
func replaceFile(file string, data []byte) (err error) {
	dir := filepath.Dir(file)
	tmp, err := os.CreateTemp(dir, filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return err
	}
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
