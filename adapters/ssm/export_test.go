package ssm

// Endpoint is endpoint.
func Endpoint(region string, fips, dualStack bool) string { return endpoint(region, fips, dualStack) }

// Parse reads an answer with the given status and returns the values by their names.
func Parse(status int, body []byte) (map[string]string, error) {
	if status != 200 {
		return nil, refusal(status, body)
	}
	a, err := parse(body)
	return a.byName(), err
}
