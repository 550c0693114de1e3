package session

import (
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/jobgate/jobgate/adapters/wire/bearer"
)

// parseToken returns a bearer token, which may come as the value of an Authorization field. The error holds nothing of
// it.
func parseToken(text string) (string, error) {
	text = strings.TrimSpace(text)
	if scheme, _, ok := strings.Cut(text, " "); !ok || !strings.EqualFold(scheme, "bearer") {
		text = "Bearer " + text
	}
	token, err := bearer.Token(text)
	if err != nil {
		return "", errors.New("there is no bearer token, or it is malformed")
	}
	return token, nil
}

// expiry returns what a token says of its end, which is good enough to know when to get another: zero when it says
// nothing.
func expiry(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Exp float64 `json:"exp"`
	}
	const lastYear = 253402300799 // of four digits
	if json.Unmarshal(text, &claims) != nil || claims.Exp <= 0 || claims.Exp > lastYear {
		return time.Time{}
	}
	return time.Unix(int64(claims.Exp), 0).UTC()
}
