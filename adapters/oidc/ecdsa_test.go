package oidc_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/jobgate/jobgate/adapters/oidc"
	"github.com/jobgate/jobgate/adapters/oidc/oidctest"
)

// Whatever R and S are, an ECDSA signature is accepted when the library's own verification accepts it, and only then.
func TestECDSASignaturesAreThoseThatTheLibraryAccepts(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"ES256", "ES384", "ES512"} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			key, source := oidctest.NewKey("key-1", alg, 0), &oidctest.Issuer{}
			source.Publish(key)
			i := fromFile(t, source.KeySet())
			v := newVerifier(t, oidc.Options{}, i)
			private, _ := key.Secret.(*ecdsa.PrivateKey)
			order := private.Params().N
			size := (order.BitLen() + 7) / 8
			check := func(what, signed string, signature []byte, want bool) {
				t.Helper()
				if byLibrary := jwt.GetSigningMethod(alg).Verify(signed, signature, &private.PublicKey) == nil; byLibrary != want {
					t.Fatalf("%s: the library says %t of %x", what, byLibrary, signature)
				}
				if _, err := v.Verify(t.Context(), signed+"."+base64.RawURLEncoding.EncodeToString(signature)); (err == nil) != want {
					t.Errorf("%s: %v for R and S of %x", what, err, signature)
				}
			}
			var signed string
			var signature []byte
			seen := make(map[string]bool) // what R and S can be like: short, or else with the first of their bits or without
			forms := 6
			if order.BitLen()%8 == 1 { // they are short without it
				forms = 4
			}
			for n := 0; len(seen) < forms; n++ {
				if n == 20_000 {
					t.Fatalf("of %d signatures none is like the others: %v", n, seen)
				}
				token := key.Sign(nil, oidctest.Claims(i.Issuer, time.Now()).With(oidctest.Object{"jti": strconv.Itoa(n)}))
				dot := strings.LastIndexByte(token, '.')
				signed = token[:dot]
				var err error
				if signature, err = base64.RawURLEncoding.DecodeString(token[dot+1:]); err != nil {
					t.Fatal(err)
				}
				isNew := false
				for name, half := range map[string][]byte{"R": signature[:size], "S": signature[size:]} {
					switch bits := new(big.Int).SetBytes(half).BitLen(); {
					case bits <= 8*(size-1):
						name += " is short"
					case bits == order.BitLen():
						name += " has the first bit"
					}
					isNew = isNew || !seen[name]
					seen[name] = true
				}
				if isNew {
					check("as it was signed", signed, signature, true)
				}
			}

			r, s := signature[:size], signature[size:]
			zero, ones := make([]byte, size), bytes.Repeat([]byte{0xff}, size)
			mirrored := new(big.Int).Sub(order, new(big.Int).SetBytes(s)).FillBytes(make([]byte, size))
			der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)})
			if err != nil {
				t.Fatal(err)
			}
			check("the other S of the same R", signed, slices.Concat(r, mirrored), true)
			for what, other := range map[string][]byte{
				"R is zero":        slices.Concat(zero, s),
				"S is zero":        slices.Concat(r, zero),
				"both are zero":    slices.Concat(zero, zero),
				"R is the order":   slices.Concat(order.FillBytes(make([]byte, size)), s),
				"S is the order":   slices.Concat(r, order.FillBytes(make([]byte, size))),
				"all bits are set": slices.Concat(ones, ones),
				"S before R":       slices.Concat(s, r),
				"longer halves":    slices.Concat([]byte{0}, r, []byte{0}, s),
				"a byte more":      slices.Concat(r, s, []byte{0}),
				"a byte before":    slices.Concat([]byte{0}, r, s),
				"a byte less":      slices.Concat(r, s[:size-1]),
				"R alone":          r,
				"in DER":           der,
				"nothing":          nil,
			} {
				check(what, signed, other, false)
			}
		})
	}
}
