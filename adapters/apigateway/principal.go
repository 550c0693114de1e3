package apigateway

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/jobgate/jobgate/domain"
)

// The keys of an authorizer's context. API Gateway hands them to the integration as strings in one flat object, and a
// REST API adds members of its own (principalId, integrationLatency), so ours are read by name.
const (
	keySubject  = "subject"
	keyIssuer   = "issuer"
	keyClient   = "client_id"
	keyTokenID  = "token_id"
	keyScopes   = "scopes"     // separated by spaces
	keyExpires  = "expires_at" // Unix time in milliseconds, or never
	keyDecision = "decision_id"
	claimPrefix = "claim_"
)

const never = "never"

// Principal returns the caller whom the authorizer let in, from the context that it gave. It is not decided anew here:
// expiry and deny list are the use case's to ask again. Without an authorizer's context the error is Unauthenticated
// with missing_token, with a malformed one Unauthenticated with invalid_token.
func Principal(r *http.Request) (domain.Principal, error) {
	values, err := authorizerContext(r)
	if err != nil {
		return domain.Principal{}, err
	}
	var who domain.Principal
	malformed := domain.Errorf(domain.Unauthenticated, domain.ReasonInvalidToken, "the authorizer's context is malformed")
	for name, raw := range values {
		var value string
		kept, isClaim := strings.CutPrefix(name, claimPrefix)
		switch name {
		case keySubject, keyIssuer, keyClient, keyTokenID, keyScopes, keyExpires, keyDecision:
		default:
			if !isClaim {
				continue
			}
		}
		if raw.Kind() != '"' || json.Unmarshal(raw, &value) != nil {
			return domain.Principal{}, malformed
		}
		switch name {
		case keySubject:
			who.Subject = value
		case keyIssuer:
			who.Issuer = value
		case keyClient:
			who.ClientID = value
		case keyTokenID:
			who.TokenID = value
		case keyScopes:
			who.Scopes = strings.Fields(value)
		case keyExpires:
			if value == never {
				continue
			}
			ms, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				return domain.Principal{}, malformed
			}
			who.ExpiresAt = time.UnixMilli(ms).UTC()
		case keyDecision:
		default:
			if who.Claims == nil {
				who.Claims = make(map[string]string)
			}
			who.Claims[kept] = value
		}
	}
	if _, bounded := values[keyExpires]; !bounded || who.Subject == "" {
		return domain.Principal{}, malformed
	}
	return who, nil
}

// DecisionID returns the id of the authorizer's decision that let r in, empty when there is none.
func DecisionID(r *http.Request) string {
	values, err := authorizerContext(r)
	if err != nil {
		return ""
	}
	var id string
	if json.Unmarshal(values[keyDecision], &id) != nil {
		return ""
	}
	return id
}

// authorizerContext returns the context that the authorizer gave, which an HTTP API nests one deeper.
func authorizerContext(r *http.Request) (map[string]jsontext.Value, error) {
	c, _ := r.Context().Value(callKey{}).(*call)
	if c == nil {
		c = &call{}
	}
	var values map[string]jsontext.Value
	raw, err := c.authorizer, error(nil)
	if c.version == version2 && len(raw) > 0 {
		var outer struct {
			Lambda jsontext.Value `json:"lambda"`
		}
		err = json.Unmarshal(raw, &outer)
		raw = outer.Lambda
	}
	if err == nil && len(raw) > 0 {
		err = json.Unmarshal(raw, &values)
	}
	switch {
	case err != nil:
		return nil, domain.Wrap(err, domain.Unauthenticated, domain.ReasonInvalidToken, "the authorizer's context is malformed")
	case values == nil:
		return nil, domain.Errorf(domain.Unauthenticated, domain.ReasonMissingToken, "the request came without an authorizer's context")
	}
	return values, nil
}
