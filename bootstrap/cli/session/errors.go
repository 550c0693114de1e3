package session

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// What callers tell apart. Everything else that goes wrong is this machine's: its disk, its keyring, its settings.
var (
	// ErrLogin is wrapped by errors that only a new login mends: there was none, or it has ended.
	ErrLogin = errors.New("not logged in")
	// ErrUnavailable is wrapped when the issuer could not be asked, or had no answer at the moment.
	ErrUnavailable = errors.New("the issuer does not answer")
	// ErrRefused is wrapped when a login was begun and not granted, or what came back is not to be trusted.
	ErrRefused = errors.New("the login failed")
	// ErrInvalid is wrapped by errors about a profile's settings.
	ErrInvalid = errors.New("the profile cannot be used")
	// ErrClock is wrapped when this machine's clock and the issuer's differ too much for a token to be judged.
	ErrClock = errors.New("the clock is wrong")
)

var errLocked = errors.New("locked")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
}

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRefused}, args...)...)
}

// notRevoked is none of the errors above: no login is asked for any more.
func notRevoked(err error) error {
	return errors.New("the tokens are removed, and were not revoked: they work until they expire: " + err.Error())
}

// loginAgain says which command helps.
func (s *Session) loginAgain(format string, args ...any) error {
	args = append([]any{ErrLogin}, args...)
	return fmt.Errorf("%w: "+format+"; run: %s", append(args, s.loginCommand())...)
}

func (s *Session) loginCommand() string {
	command := "jobgate login"
	switch s.record.Grant {
	case grantDevice:
		command += " --device"
	case grantClient:
		command += " --client-credentials"
	case grantToken:
		command += " --token-stdin"
	}
	if s.profile.Name != DefaultProfile {
		command += " --profile " + s.profile.Name
	}
	return command
}

// clockError says by how much this machine's clock is off, or is nil when that is no more than maxSkew.
func clockError(now, issuers time.Time) error {
	if issuers.IsZero() {
		return nil
	}
	skew := now.Sub(issuers)
	if skew.Abs() <= maxSkew {
		return nil
	}
	side := "ahead of"
	if skew < 0 {
		side = "behind"
	}
	return fmt.Errorf("%w: this machine's is %v %s the issuer's, which says %s: set it, then log in again",
		ErrClock, skew.Abs().Round(time.Second), side, issuers.UTC().Format(time.RFC3339))
}

// printable returns at most 200 characters of what another side wrote, such that a terminal only shows it.
func printable(s string) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' { // RFC 6749 §5.2 allows no more in an error
			return '?'
		}
		return r
	}, s))
	if len(runes) > 200 {
		return string(runes[:200]) + "…"
	}
	return string(runes)
}
