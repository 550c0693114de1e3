package apigateway

import (
	"maps"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/jobgate/jobgate/domain"
)

// Answers are appended piece by piece and not made by reflection: they are in the way of every request.

// appendContext appends the context for who, always in the same order. Of the scopes only those that are wanted are in it,
// and empty values are left out. The error is for a text that is no UTF-8.
func appendContext(b []byte, who *domain.Principal, wanted []string, decision string) (_ []byte, err error) {
	b = append(b, '{')
	if who.ClientID != "" {
		b = append(appendText(appendKey(b, keyClient), who.ClientID, &err), ',')
	}
	b = append(appendText(appendKey(b, keyDecision), decision, &err), ',')
	b = append(appendKey(b, keyExpires), '"')
	if who.ExpiresAt.IsZero() {
		b = append(b, never...)
	} else {
		b = strconv.AppendInt(b, who.ExpiresAt.UnixMilli(), 10)
	}
	b = append(b, `",`...)
	if who.Issuer != "" {
		b = append(appendText(appendKey(b, keyIssuer), who.Issuer, &err), ',')
	}
	var room [256]byte
	scopes := room[:0]
	for _, s := range who.Scopes {
		if slices.Contains(wanted, s) {
			scopes = append(append(scopes, s...), ' ')
		}
	}
	if n := len(scopes); n > 0 {
		b = append(appendText(appendKey(b, keyScopes), scopes[:n-1], &err), ',')
	}
	b = appendText(appendKey(b, keySubject), who.Subject, &err)
	if who.TokenID != "" {
		b = appendText(appendKey(append(b, ','), keyTokenID), who.TokenID, &err)
	}
	if len(who.Claims) > 0 {
		for _, name := range slices.Sorted(maps.Keys(who.Claims)) {
			if value := who.Claims[name]; value != "" {
				b = appendText(append(appendText(append(b, ','), claimPrefix+name, &err), ':'), value, &err)
			}
		}
	}
	return append(b, '}'), err
}

// appendKey begins a member. Its name is one of ours and has nothing to escape.
func appendKey(b []byte, name string) []byte {
	return append(append(append(b, '"'), name...), `":`...)
}

// appendText appends a text. What is wrong with it, as it is no UTF-8, becomes *failure.
func appendText[T string | []byte](b []byte, text T, failure *error) []byte {
	b, err := jsontext.AppendQuote(b, text)
	if err != nil {
		*failure = err
	}
	return b
}
