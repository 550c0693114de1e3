package oidc

import (
	"crypto/ecdsa"

	"github.com/golang-jwt/jwt/v5"
)

// An ecdsaMethod is the library's, but that a signature goes to crypto/ecdsa as it is, rewritten, and not by way of two big
// integers: those allocate more than all of the verification.
type ecdsaMethod struct{ *jwt.SigningMethodECDSA }

// Verify implements jwt.SigningMethod.
func (m ecdsaMethod) Verify(signed string, signature []byte, key any) error {
	public, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return jwt.ErrInvalidKeyType
	}
	if len(signature) != 2*m.KeySize {
		return jwt.ErrECDSAVerification
	}
	hash := m.Hash.New()
	hash.Write([]byte(signed))
	if !ecdsa.VerifyASN1(public, hash.Sum(nil), derSignature(signature)) {
		return jwt.ErrECDSAVerification
	}
	return nil
}

// derSignature returns the Ecdsa-Sig-Value (RFC 3279 §2.2.3), in DER, of the signature that is R and S, each as long as the
// other (RFC 7518 §3.4) and of at most 66 bytes.
//
//nolint:gosec // all lengths are below 256, by what Verify asks of the signature's
func derSignature(signature []byte) []byte {
	const sequence, integer, long = 0x30, 0x02, 0x81
	half := len(signature) / 2
	b := make([]byte, 3, len(signature)+9)
	for _, n := range [...][]byte{signature[:half], signature[half:]} {
		for len(n) > 1 && n[0] == 0 {
			n = n[1:]
		}
		if n[0] < 0x80 {
			b = append(b, integer, byte(len(n)))
		} else { // which would be negative
			b = append(b, integer, byte(len(n)+1), 0)
		}
		b = append(b, n...)
	}
	length := len(b) - 3
	if length < 0x80 {
		b[1], b[2] = sequence, byte(length)
		return b[1:]
	}
	b[0], b[1], b[2] = sequence, long, byte(length)
	return b
}
