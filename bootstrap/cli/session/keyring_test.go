package session

import (
	"errors"
	"testing"

	oskeyring "github.com/zalando/go-keyring"
)

func TestTheSystemsKeyringIsSpokenTo(t *testing.T) { //nolint:paralleltest // the library's stand-in is global
	oskeyring.MockInit()
	k := systemKeyring{}
	if _, err := k.get("a"); !errors.Is(err, errNoSecret) {
		t.Errorf("get = %v, want that there is none", err)
	}
	if err := k.set("a", "secret"); err != nil {
		t.Error(err)
	}
	if got, err := k.get("a"); got != "secret" || err != nil {
		t.Errorf("get = %q, %v", got, err)
	}
	if err := k.remove("a"); err != nil {
		t.Error(err)
	}
	if _, err := k.get("a"); !errors.Is(err, errNoSecret) {
		t.Errorf("after remove, get = %v", err)
	}
	broken := errors.New("locked")
	oskeyring.MockInitWithError(broken)
	if err := k.set("a", "secret"); !errors.Is(err, broken) {
		t.Errorf("set = %v", err)
	}
}
