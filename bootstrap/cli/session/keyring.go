package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	oskeyring "github.com/zalando/go-keyring"
)

// Keyring says whether a login uses the operating system's keyring.
type Keyring string

// The choices.
const (
	KeyringAuto     Keyring = "auto"     // where there is one that works
	KeyringRequired Keyring = "required" // or the login fails
	KeyringOff      Keyring = "off"
)

const (
	keyringService = "jobgate"
	// keyringWait is what a person gets to unlock it in.
	keyringWait = time.Minute
	keySize     = 32 // AES-256
)

var (
	errNoSecret    = errors.New("the keyring has no such entry")
	errKeyringWait = fmt.Errorf("the keyring has not answered for %v", keyringWait)
)

// A keyring keeps a short text for this user. get returns errNoSecret when there is none.
type keyring interface {
	get(name string) (string, error)
	set(name, secret string) error
	remove(name string) error
}

// systemKeyring is the operating system's.
type systemKeyring struct{}

func (systemKeyring) get(name string) (string, error) {
	return ask(func() (string, error) { return oskeyring.Get(keyringService, name) })
}

func (systemKeyring) set(name, secret string) error {
	_, err := ask(func() (string, error) { return "", oskeyring.Set(keyringService, name, secret) })
	return err
}

func (systemKeyring) remove(name string) error {
	_, err := ask(func() (string, error) { return "", oskeyring.Delete(keyringService, name) })
	return err
}

// ask bounds the time of a call that knows no context.
func ask(call func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // ends with its call, or with the process that is told of the failure
		text, err := call()
		answers <- answer{text, err}
	}()
	timeout := time.NewTimer(keyringWait)
	defer timeout.Stop()
	select {
	case a := <-answers:
		if errors.Is(a.err, oskeyring.ErrNotFound) {
			return "", errNoSecret
		}
		return a.text, a.err
	case <-timeout.C:
		return "", errKeyringWait
	}
}

// keyName names the profile's key. Two directories' profiles of one name are two.
func (s *Session) keyName() string { return s.store.file() }

// key returns the profile's key.
func (s *Session) key() ([]byte, error) {
	text, err := s.keyring.get(s.keyName())
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != keySize {
		return nil, errNoSecret
	}
	return key, nil
}

// makeKey sees to it that the keyring has a key for the profile, and gives it back.
func (s *Session) makeKey() error {
	_, err := s.key()
	if !errors.Is(err, errNoSecret) {
		return err
	}
	key := make([]byte, keySize)
	rand.Read(key)
	if err := s.keyring.set(s.keyName(), base64.StdEncoding.EncodeToString(key)); err != nil {
		return err
	}
	_, err = s.key()
	return err
}

// A box seals tokens; a nil one leaves them plain.
type box struct {
	cipher cipher.AEAD
	along  []byte // tokens for one server are not opened for another
}

func (s *Session) box(r record) (*box, error) {
	key, err := s.key()
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	along, err := json.Marshal([]string{s.store.name, r.Server, r.Issuer, r.ClientID})
	return &box{gcm, along}, err
}

func (b *box) seal(t tokens) ([]byte, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	return b.cipher.Seal(nil, nil, text, b.along), nil //nolint:gosec // G407: the cipher makes its own random nonce
}

func (b *box) open(sealed []byte) (t tokens, err error) {
	text, err := b.cipher.Open(nil, nil, sealed, b.along)
	if err == nil {
		err = json.Unmarshal(text, &t)
	}
	return t, err
}

// unseal returns the tokens in r, and what they were sealed with.
func (s *Session) unseal(r record) (tokens, *box, error) {
	if !r.loggedIn() {
		return tokens{}, nil, s.loginAgain("the profile %q is logged out", s.profile.Name)
	}
	if len(r.Sealed) == 0 {
		return r.Plain, nil, nil
	}
	b, err := s.box(r)
	if errors.Is(err, errNoSecret) {
		return tokens{}, nil, s.loginAgain("the keyring has no key for the tokens of the profile %q any more", s.profile.Name)
	}
	if err != nil {
		return tokens{}, nil, fmt.Errorf("the tokens of the profile %q are sealed with a key in the keyring, which failed: %w; unlock it, or run: %s --keyring off",
			s.profile.Name, err, s.loginCommand())
	}
	t, err := b.open(r.Sealed)
	if err != nil {
		return tokens{}, nil, s.loginAgain("the tokens of the profile %q do not fit the key in the keyring", s.profile.Name)
	}
	return t, b, nil
}
