package apigateway

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/jobgate/jobgate/domain"
)

// A contextValue is a member of an authorizer's context.
type contextValue struct{ key, value string }

// principalContext is the context for who, always in the same order. Empty values are left out.
func principalContext(who domain.Principal, decision string) []contextValue {
	expires := never
	if !who.ExpiresAt.IsZero() {
		expires = strconv.FormatInt(who.ExpiresAt.UnixMilli(), 10)
	}
	values := append(make([]contextValue, 0, 7+len(who.Claims)),
		contextValue{keyClient, who.ClientID}, contextValue{keyDecision, decision}, contextValue{keyExpires, expires}, contextValue{keyIssuer, who.Issuer},
		contextValue{keyScopes, strings.Join(who.Scopes, " ")}, contextValue{keySubject, who.Subject}, contextValue{keyTokenID, who.TokenID})
	if len(who.Claims) > 0 {
		for _, name := range slices.Sorted(maps.Keys(who.Claims)) {
			values = append(values, contextValue{claimPrefix + name, who.Claims[name]})
		}
	}
	return slices.DeleteFunc(values, func(v contextValue) bool { return v.value == "" && v.key != keySubject })
}

// encodeAnswer writes an authorizer's answer, as json.Marshal would events.APIGatewayCustomAuthorizerResponse: this is in
// the way of every request. The error is for a text that is no UTF-8.
func encodeAnswer(principal string, policy Document, context []contextValue) ([]byte, error) {
	e := encoder{b: make([]byte, 0, 2<<10)}
	e.raw(`{"principalId":`).text(principal)
	e.raw(`,"policyDocument":{"Version":`).text(policy.Version).raw(`,"Statement":[`)
	for i, statement := range policy.Statement {
		e.comma(i).raw(`{"Action":`).list(statement.Action).raw(`,"Effect":`).text(statement.Effect).raw(`,"Resource":`).list(statement.Resource).raw(`}`)
	}
	e.raw(`]},"context":{`)
	for i, v := range context {
		e.comma(i).text(v.key).raw(`:`).text(v.value)
	}
	e.raw(`}}`)
	return e.b, e.err
}

// An encoder appends JSON, up to its first error.
type encoder struct {
	b   []byte
	err error
}

func (e *encoder) raw(s string) *encoder {
	e.b = append(e.b, s...)
	return e
}

func (e *encoder) comma(i int) *encoder {
	if i > 0 {
		e.raw(",")
	}
	return e
}

func (e *encoder) text(s string) *encoder {
	b, err := jsontext.AppendQuote(e.b, s)
	if e.b = b; e.err == nil {
		e.err = err
	}
	return e
}

func (e *encoder) list(texts []string) *encoder {
	e.raw("[")
	for i, s := range texts {
		e.comma(i).text(s)
	}
	return e.raw("]")
}
