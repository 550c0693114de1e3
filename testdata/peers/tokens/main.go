// Command tokens verifies tokens as a user of the usual libraries would, and prints what one takes in nanoseconds.
//
//	tokens -what keyfunc|authorizer|go-oidc -issuer URL -audience A -keys FILE -for 500ms <tokens
//
// The tokens come one a line. Keys are at hand: nothing is fetched.
package main

import (
	"bufio"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/aws/aws-lambda-go/events"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/golang-jwt/jwt/v5"
)

var (
	what     = flag.String("what", "keyfunc", "keyfunc, authorizer or go-oidc")
	issuer   = flag.String("issuer", "", "the tokens' issuer")
	audience = flag.String("audience", "", "their audience")
	keysFile = flag.String("keys", "", "a file with a JSON Web Key Set")
	span     = flag.Duration("for", 500*time.Millisecond, "how long to measure")
)

func main() {
	flag.Parse()
	keySet, err := os.ReadFile(*keysFile)
	if err != nil {
		log.Fatal(err)
	}
	var tokens []string
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		tokens = append(tokens, lines.Text())
	}
	keys, err := keyfunc.NewJWKSetJSON(keySet)
	if err != nil {
		log.Fatal(err)
	}
	var once func(i int) error
	switch *what {
	case "keyfunc":
		once = verifyTokens(keys, tokens)
	case "authorizer":
		once = authorize(keys, tokens)
	case "go-oidc":
		once = verifyIDTokens(keys, tokens)
	default:
		log.Fatalf("what is %q?", *what)
	}
	for i := range tokens { // warm up, and see that it works
		if err := once(i); err != nil {
			log.Fatal(err)
		}
	}
	began, n := time.Now(), 0
	for ; time.Since(began) < *span; n++ {
		if err := once(n % len(tokens)); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Printf(`{"ns": %d}`, time.Since(began).Nanoseconds()/int64(n))
}

func parser() *jwt.Parser {
	return jwt.NewParser(jwt.WithValidMethods([]string{"RS256", "ES256", "EdDSA"}), jwt.WithIssuer(*issuer), jwt.WithAudience(*audience),
		jwt.WithExpirationRequired(), jwt.WithLeeway(time.Minute))
}

// verifyTokens is golang-jwt with keyfunc.
func verifyTokens(keys keyfunc.Keyfunc, tokens []string) func(int) error {
	p := parser()
	return func(i int) error {
		var claims jwt.RegisteredClaims
		_, err := p.ParseWithClaims(tokens[i], &claims, keys.Keyfunc)
		return err
	}
}

// authorize is what many write as a TOKEN authorizer: the event is decoded, the token verified with golang-jwt and
// keyfunc, and a policy for the whole stage returned.
func authorize(keys keyfunc.Keyfunc, tokens []string) func(int) error {
	type scoped struct {
		jwt.RegisteredClaims
		Scope string `json:"scope"`
	}
	p := parser()
	answer := func(payload []byte) ([]byte, error) {
		var event events.APIGatewayCustomAuthorizerRequest
		if err := json.Unmarshal(payload, &event); err != nil {
			return nil, err
		}
		token, ok := strings.CutPrefix(event.AuthorizationToken, "Bearer ")
		if !ok {
			return nil, errors.New("Unauthorized")
		}
		var claims scoped
		if _, err := p.ParseWithClaims(token, &claims, keys.Keyfunc); err != nil {
			return nil, errors.New("Unauthorized")
		}
		stage := strings.Join(strings.SplitN(event.MethodArn, "/", 3)[:2], "/")
		return json.Marshal(events.APIGatewayCustomAuthorizerResponse{
			PrincipalID: claims.Subject,
			PolicyDocument: events.APIGatewayCustomAuthorizerPolicy{
				Version: "2012-10-17",
				Statement: []events.IAMPolicyStatement{
					{Action: []string{"execute-api:Invoke"}, Effect: "Allow", Resource: []string{stage + "/*/*"}},
				},
			},
			Context: map[string]any{"scope": claims.Scope},
		})
	}
	payloads := make([][]byte, 0, len(tokens))
	for _, token := range tokens {
		payload, err := json.Marshal(map[string]string{
			"type": "TOKEN", "methodArn": "arn:aws:execute-api:us-east-1:123456789012:abcdef123/prod/GET/jobs", "authorizationToken": "Bearer " + token,
		})
		if err != nil {
			log.Fatal(err)
		}
		payloads = append(payloads, payload)
	}
	return func(i int) error {
		_, err := answer(payloads[i])
		return err
	}
}

// verifyIDTokens is go-oidc, with its keys given instead of fetched.
func verifyIDTokens(keys keyfunc.Keyfunc, tokens []string) func(int) error {
	var public []crypto.PublicKey
	all, err := keys.Storage().KeyReadAll(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	for _, key := range all {
		public = append(public, key.Key())
	}
	verifier := oidc.NewVerifier(*issuer, &oidc.StaticKeySet{PublicKeys: public}, &oidc.Config{
		ClientID: *audience, SupportedSigningAlgs: []string{oidc.RS256, oidc.ES256, oidc.EdDSA},
	})
	return func(i int) error {
		_, err := verifier.Verify(context.Background(), tokens[i])
		return err
	}
}
