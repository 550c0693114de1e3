// Package localgateway does on a laptop what an API Gateway REST API does in front of the authorizer and jobs functions:
// it routes by resource, calls the authorizer, caches its policy and evaluates that anew for each method, hands its
// context on as strings, and answers for everything that goes wrong before or around the functions. The functions are
// the very ones that are deployed, and see the very same events.
//
// Where AWS leaves the answer to gateway responses, the answers are those of this project's deployment: problem
// documents of constants and ids alone.
package localgateway
