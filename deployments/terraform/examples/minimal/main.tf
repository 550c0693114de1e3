terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.46"
    }
  }
}

provider "aws" {
  region = var.region
}

variable "region" {
  description = "Region to deploy to."
  type        = string
  default     = "eu-west-1"
}

variable "oidc_issuer" {
  description = "Issuer of the tokens."
  type        = string
}

module "jobgate" {
  source = "../.."

  packages_dir  = "${path.root}/../../../../dist"
  oidc_issuer   = var.oidc_issuer
  oidc_audience = ["jobgate"]

  # An account that has set API Gateway's CloudWatch role already has access logs without more.
  api_gateway_account = true
}

output "url" {
  description = "Where the API is."
  value       = module.jobgate.url
}
