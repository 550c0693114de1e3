package apigateway

import (
	"errors"
	"strings"
)

// A Deployment names one stage of one API, as the method ARN of an authorizer event does.
type Deployment struct {
	Partition string // aws, aws-cn, aws-us-gov, …
	Region    string
	Account   string
	API       string
	Stage     string
}

// maxMethodARN is the longest method ARN that API Gateway hands to an authorizer; see
// https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-output.html.
const maxMethodARN = 1600

// ParseMethodARN returns the deployment that a method ARN belongs to:
// arn:PARTITION:execute-api:REGION:ACCOUNT:API/STAGE/METHOD/path.
//
// Each part is taken from the alphabet that AWS documents for it, so that none can hold a wildcard, a separator or a
// policy variable. A stage has at most 128 letters, digits, hyphens and underscores, or is an HTTP API's $default.
// What follows the method is the caller's and is not looked at.
func ParseMethodARN(arn string) (Deployment, error) {
	if len(arn) > maxMethodARN {
		return Deployment{}, errors.New("method ARN over 1,600 bytes")
	}
	var d Deployment
	rest, ok := strings.CutPrefix(arn, "arn:")
	d.Partition, rest, _ = strings.Cut(rest, ":")
	rest, isAPI := strings.CutPrefix(rest, "execute-api:")
	d.Region, rest, _ = strings.Cut(rest, ":")
	d.Account, rest, _ = strings.Cut(rest, ":")
	d.API, rest, _ = strings.Cut(rest, "/")
	d.Stage, rest, _ = strings.Cut(rest, "/")
	method, _, _ := strings.Cut(rest, "/")
	if !ok || !isAPI || !isPartition(d.Partition) || !isRegion(d.Region) || len(d.Account) != 12 || !only(d.Account, digit) ||
		!within(d.API, 1, 64) || !only(d.API, lower|digit) ||
		d.Stage != "$default" && (!within(d.Stage, 1, 128) || !only(d.Stage, upper|lower|digit|dash|underscore)) ||
		!within(method, 1, 16) || !only(method, upper) {
		return Deployment{}, errors.New("not a method ARN of execute-api")
	}
	return d, nil
}

// isPartition reports whether s is aws, with up to three parts of up to eight letters after it.
func isPartition(s string) bool {
	first, rest, more := strings.Cut(s, "-")
	if first != "aws" {
		return false
	}
	for n := 1; more; n++ {
		var part string
		part, rest, more = strings.Cut(rest, "-")
		if n > 3 || !within(part, 1, 8) || !only(part, lower) {
			return false
		}
	}
	return true
}

// isRegion reports whether s begins with two letters and goes on with letters, digits and hyphens: 3 to 32 in all.
func isRegion(s string) bool {
	return within(s, 3, 32) && only(s[:2], lower) && only(s[2:], lower|digit|dash)
}

func within(s string, least, most int) bool { return least <= len(s) && len(s) <= most }

// An alphabet is a set of kinds of ASCII characters.
type alphabet uint8

const (
	lower alphabet = 1 << iota
	upper
	digit
	dash
	underscore
)

// kinds has the kind of every character that has one.
var kinds = func() (kinds [256]alphabet) {
	for c := range kinds {
		switch {
		case 'a' <= c && c <= 'z':
			kinds[c] = lower
		case 'A' <= c && c <= 'Z':
			kinds[c] = upper
		case '0' <= c && c <= '9':
			kinds[c] = digit
		case c == '-':
			kinds[c] = dash
		case c == '_':
			kinds[c] = underscore
		}
	}
	return kinds
}()

// only reports whether s has no other characters than those of a.
func only(s string, a alphabet) bool {
	for i := range len(s) {
		if kinds[s[i]]&a == 0 {
			return false
		}
	}
	return true
}

// appendResource appends the ARN of what lies at pattern ("METHOD/path") in the deployment.
func (d *Deployment) appendResource(b []byte, pattern string) []byte {
	for _, part := range [...]string{
		"arn:", d.Partition, ":execute-api:", d.Region, ":", d.Account, ":", d.API, "/", d.Stage, "/", pattern,
	} {
		b = append(b, part...)
	}
	return b
}
