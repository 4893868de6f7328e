#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""lambda_api.py - Lambda's API as boto3 sees it, against a snapd at ENDPOINT

One process for everything, because importing boto3 takes longer than all that it does here.
"""
import base64
import io
import json
import re
import sys
import time
import urllib.error
import urllib.request
import zipfile

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session

ROLE = "arn:aws:iam::123456789012:role/quickthaw"
ARN = "arn:aws:lambda:local:000000000000:function:api"
FIRST = """
import os
def handler(event, context):
    print("the handler was here")
    return {"code": "first", "stage": os.environ.get("STAGE"), "got": event}
"""
SECOND = 'def handler(event, context):\n    return {"code": "second"}\n'
NOT_HERE = {
    "get_policy": {"FunctionName": "api"},
    "list_event_source_mappings": {},
    "list_code_signing_configs": {},
    "get_function_code_signing_config": {"FunctionName": "api"},
}


def zipped(text):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("app.py", text)
    return data.getvalue()


def refused(code, status, call, **arguments):
    """The call is refused with this exception; its message is returned."""
    try:
        call(**arguments)
    except ClientError as error:
        answer = error.response
        assert answer["Error"]["Code"] == code, answer
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == status, answer
        assert answer["Error"]["Message"], answer
        return answer["Error"]["Message"]
    raise AssertionError(f"not refused: {arguments}")


def invoke(c, qualifier, **arguments):
    reply = c.invoke(FunctionName="api", Qualifier=qualifier, **arguments)
    assert reply["StatusCode"] == 200 and "FunctionError" not in reply, reply
    return reply, json.load(reply["Payload"])


def create(c):
    made = c.create_function(
        FunctionName="api", Runtime="python3.11", Role=ROLE, Handler="app.handler",
        Code={"ZipFile": zipped(FIRST)}, Description="first", Timeout=60, MemorySize=256,
        Environment={"Variables": {"STAGE": "test"}}, Tags={"team": "blue", "tier": "1"},
        SnapStart={"ApplyOn": "PublishedVersions"})
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert made["FunctionArn"] == ARN and made["Version"] == "$LATEST", made
    assert made["CodeSize"] == len(zipped(FIRST)) and len(made["CodeSha256"]) == 44, made
    c.get_waiter("function_exists").wait(FunctionName="api")
    c.get_waiter("function_active").wait(FunctionName="api")
    c.get_waiter("function_active_v2").wait(FunctionName=ARN)
    shown = c.get_function(FunctionName="000000000000:function:api")
    assert shown["Configuration"]["State"] == "Active", shown
    assert shown["Tags"] == {"team": "blue", "tier": "1"}, shown
    assert shown["Code"]["RepositoryType"], shown
    refused("ResourceConflictException", 409, c.create_function, FunctionName="api", Role=ROLE,
            Runtime="python3.11", Handler="a.b", Code={"ZipFile": zipped(FIRST)})
    message = refused("InvalidParameterValueException", 400, c.create_function,
                      FunctionName="other", Role=ROLE, Runtime="ruby2.7", Handler="a.b",
                      Code={"ZipFile": zipped(FIRST)})
    assert "Runtime" in message


def publish(c):
    one = c.publish_version(FunctionName="api")
    assert one["Version"] == "1" and one["FunctionArn"] == ARN + ":1", one
    assert one["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}, one
    c.get_waiter("published_version_active").wait(FunctionName="api", Qualifier="1")
    reply, answer = invoke(c, "1", Payload=b'{"n": 1}', LogType="Tail")
    assert reply["ExecutedVersion"] == "1", reply
    assert answer == {"code": "first", "stage": "test", "got": {"n": 1}}, answer
    lines = base64.b64decode(reply["LogResult"]).decode().splitlines()
    request_id = reply["ResponseMetadata"]["RequestId"]
    assert lines[0].startswith(f"START RequestId: {request_id} Version: 1"), lines
    assert "the handler was here" in lines, lines
    assert lines[-2] == f"END RequestId: {request_id}", lines
    assert lines[-1].startswith(f"REPORT RequestId: {request_id}\tDuration: "), lines
    assert "LogResult" not in invoke(c, "1")[0]
    assert c.publish_version(FunctionName="api")["Version"] == "1"

    old = c.get_function_configuration(FunctionName="api")["RevisionId"]
    changed = c.update_function_code(FunctionName="api", ZipFile=zipped(SECOND))
    assert changed["RevisionId"] != old and changed["CodeSha256"] != one["CodeSha256"], changed
    c.get_waiter("function_updated").wait(FunctionName="api")
    changed = c.update_function_configuration(FunctionName="api", Timeout=50)
    assert changed["Timeout"] == 50 and changed["MemorySize"] == 256, changed
    c.get_waiter("function_updated_v2").wait(FunctionName="api")
    refused("PreconditionFailedException", 412, c.update_function_configuration,
            FunctionName="api", Timeout=40, RevisionId=old)
    refused("PreconditionFailedException", 412, c.publish_version, FunctionName="api",
            RevisionId=old)
    refused("InvalidParameterValueException", 400, c.publish_version, FunctionName="api",
            CodeSha256=one["CodeSha256"])
    two = c.publish_version(FunctionName="api", Description="the second",
                            CodeSha256=changed["CodeSha256"])
    assert two["Version"] == "2" and two["Description"] == "the second", two


def alias(c):
    made = c.create_alias(FunctionName="api", Name="prod", FunctionVersion="1")
    assert made["AliasArn"] == ARN + ":prod", made
    assert invoke(c, "prod")[0]["ExecutedVersion"] == "1"
    c.update_alias(FunctionName="api", Name="prod",
                   RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
    # All 30 of one version: once in 500 million times.
    counts = {"1": 0, "2": 0}
    codes = {"1": "first", "2": "second"}
    while sum(counts.values()) < 30 and 0 in counts.values():
        reply, answer = invoke(c, "prod")
        assert answer["code"] == codes[reply["ExecutedVersion"]], answer
        counts[reply["ExecutedVersion"]] += 1
    assert all(counts.values()), counts
    moved = c.update_alias(FunctionName="api", Name="prod", FunctionVersion="2",
                           RoutingConfig={"AdditionalVersionWeights": {}})
    refused("PreconditionFailedException", 412, c.update_alias, FunctionName="api", Name="prod",
            RevisionId=made["RevisionId"])
    assert c.get_alias(FunctionName=ARN, Name="prod")["RevisionId"] == moved["RevisionId"]
    reply = c.invoke(FunctionName=ARN + ":prod")
    assert reply["ExecutedVersion"] == "2"
    c.create_alias(FunctionName="api", Name="beta", FunctionVersion="$LATEST")
    names = [a["Name"] for a in c.list_aliases(FunctionName="api")["Aliases"]]
    assert names == ["beta", "prod"], names
    c.delete_alias(FunctionName="api", Name="beta")
    refused("ResourceNotFoundException", 404, c.get_alias, FunctionName="api", Name="beta")


def concurrency(c):
    limit = c.get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    c.put_function_concurrency(FunctionName="api", ReservedConcurrentExecutions=0)
    refused("TooManyRequestsException", 429, c.invoke, FunctionName="api", Qualifier="2")
    c.put_function_concurrency(FunctionName="api", ReservedConcurrentExecutions=5)
    left = c.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    assert left == limit - 5, left
    got = c.get_function_concurrency(FunctionName="api")
    assert got["ReservedConcurrentExecutions"] == 5, got
    assert c.get_function(FunctionName="api")["Concurrency"] == {
        "ReservedConcurrentExecutions": 5}
    refused("InvalidParameterValueException", 400, c.put_function_concurrency,
            FunctionName="api", ReservedConcurrentExecutions=limit)

    arguments = {"FunctionName": "api", "Qualifier": "prod"}
    refused("ProvisionedConcurrencyConfigNotFoundException", 404,
            c.get_provisioned_concurrency_config, **arguments)
    made = c.put_provisioned_concurrency_config(ProvisionedConcurrentExecutions=1, **arguments)
    assert made["RequestedProvisionedConcurrentExecutions"] == 1, made
    deadline = time.monotonic() + 300
    while c.get_provisioned_concurrency_config(**arguments)["Status"] != "READY":
        assert time.monotonic() < deadline, c.get_provisioned_concurrency_config(**arguments)
        time.sleep(0.2)
    assert invoke(c, "prod")[0]["ResponseMetadata"]["HTTPHeaders"]["x-quickthaw-start"] == "warm"
    configs = c.list_provisioned_concurrency_configs(FunctionName="api")
    assert configs["ProvisionedConcurrencyConfigs"][0]["FunctionArn"] == ARN + ":prod", configs
    c.delete_provisioned_concurrency_config(**arguments)
    assert not c.list_provisioned_concurrency_configs(FunctionName="api")[
        "ProvisionedConcurrencyConfigs"]
    c.delete_function_concurrency(FunctionName="api")
    assert "ReservedConcurrentExecutions" not in c.get_function_concurrency(FunctionName="api")


def events_and_urls(c):
    c.put_function_event_invoke_config(FunctionName="api", Qualifier="prod",
                                       MaximumRetryAttempts=0)
    got = c.update_function_event_invoke_config(FunctionName="api", Qualifier="prod",
                                                MaximumEventAgeInSeconds=60)
    assert got["MaximumRetryAttempts"] == 0 and got["LastModified"].year > 2020, got
    configs = c.list_function_event_invoke_configs(FunctionName="api")
    assert len(configs["FunctionEventInvokeConfigs"]) == 1, configs
    assert c.get_function_event_invoke_config(FunctionName="api:prod")[
        "MaximumEventAgeInSeconds"] == 60
    c.delete_function_event_invoke_config(FunctionName="api", Qualifier="prod")
    refused("ResourceNotFoundException", 404, c.get_function_event_invoke_config,
            FunctionName="api", Qualifier="prod")

    made = c.create_function_url_config(FunctionName="api", Qualifier="prod", AuthType="NONE",
                                        Cors={"AllowOrigins": ["*"], "MaxAge": 5})
    assert made["FunctionUrl"].startswith("http"), made
    refused("ResourceConflictException", 409, c.create_function_url_config, FunctionName="api",
            Qualifier="prod", AuthType="NONE")
    c.update_function_url_config(FunctionName="api", Qualifier="prod", AuthType="AWS_IAM")
    got = c.get_function_url_config(FunctionName="api", Qualifier="prod")
    assert got["AuthType"] == "AWS_IAM" and got["FunctionUrl"] == made["FunctionUrl"], got
    assert len(c.list_function_url_configs(FunctionName="api")["FunctionUrlConfigs"]) == 1
    c.delete_function_url_config(FunctionName="api", Qualifier="prod")
    refused("ResourceNotFoundException", 404, c.get_function_url_config, FunctionName="api",
            Qualifier="prod")


def signed(c, method, path):
    """A request to what is Quickthaw's own, with this client's key."""
    request = AWSRequest(method, sys.argv[1] + path)
    SigV4Auth(boto3.Session().get_credentials(), "lambda", c.meta.region_name).add_auth(request)
    return URLLib3Session().send(request.prepare())


def invocation_types(c):
    assert c.invoke(FunctionName="api", Qualifier="2", InvocationType="DryRun")[
        "StatusCode"] == 204
    accepted = c.invoke(FunctionName="api", Qualifier="1", InvocationType="Event", Payload=b"{}")
    assert accepted["StatusCode"] == 202 and not accepted["Payload"].read(), accepted
    # It runs, under the id that was told when it was accepted.
    end = "END RequestId: " + accepted["ResponseMetadata"]["RequestId"]
    deadline = time.monotonic() + 300
    while end not in (log := signed(c, "GET", "/quickthaw/v1/functions/api/logs").text):
        assert time.monotonic() < deadline, log
        time.sleep(0.2)
    events = signed(c, "GET", "/quickthaw/v1/events")
    assert json.loads(events.text)["Succeeded"] == 1, events.text


def layers(c):
    text = "WHAT = 'a layer'"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("python/from_layer.py", text)
    made = c.publish_layer_version(LayerName="libs", Description="first",
                                   Content={"ZipFile": data.getvalue()},
                                   CompatibleRuntimes=["python3.11"])
    assert made["Version"] == 1 and made["Content"]["CodeSize"] == len(data.getvalue()), made
    arn = made["LayerVersionArn"]
    assert arn == made["LayerArn"] + ":1", made
    assert [one["LayerName"] for one in c.list_layers()["Layers"]] == ["libs"]
    assert c.list_layer_versions(LayerName="libs")["LayerVersions"][0]["Version"] == 1
    got = c.get_layer_version(LayerName="libs", VersionNumber=1)
    assert got["Content"]["CodeSha256"] == made["Content"]["CodeSha256"], got
    assert c.get_layer_version_by_arn(Arn=arn)["LayerVersionArn"] == arn
    with urllib.request.urlopen(got["Content"]["Location"]) as answer:
        assert answer.read() == data.getvalue()
    c.create_function(FunctionName="layered", Runtime="python3.11", Role=ROLE, Timeout=60,
                      Handler="app.handler", Layers=[arn], Code={"ZipFile": zipped(
                          "import from_layer\ndef handler(e, c):\n    return from_layer.WHAT\n")})
    reply = c.invoke(FunctionName="layered", Qualifier="$LATEST")
    assert json.load(reply["Payload"]) == "a layer", reply
    shown = c.get_function_configuration(FunctionName="layered")
    assert [one["Arn"] for one in shown["Layers"]] == [arn], shown
    c.update_function_configuration(FunctionName="layered", Layers=[])
    reply = c.invoke(FunctionName="layered", Qualifier="$LATEST")
    assert reply["FunctionError"] == "Unhandled", reply
    c.delete_layer_version(LayerName="libs", VersionNumber=1)
    refused("ResourceNotFoundException", 404, c.get_layer_version, LayerName="libs",
            VersionNumber=1)
    c.delete_function(FunctionName="layered")


def download(c):
    """The code's URL is its own credential, good for that and for nothing else."""
    location = c.get_function(FunctionName="api", Qualifier="2")["Code"]["Location"]
    assert location.startswith(sys.argv[1] + "/"), location
    with urllib.request.urlopen(location) as answer:
        assert zipfile.ZipFile(io.BytesIO(answer.read())).read("app.py") == SECOND.encode()
    for wrong in (location[:-1] + ("0" if location[-1] != "0" else "1"),
                  location.replace("Version=2", "Version=1"), location.split("?", 1)[0]):
        try:
            urllib.request.urlopen(wrong)
            raise AssertionError(f"had without a right to it: {wrong}")
        except urllib.error.HTTPError as error:
            assert error.code == 403, (wrong, error.code)


def tags(c):
    c.tag_resource(Resource=ARN, Tags={"cost centre": "ü/7", "tier": "2"})
    c.untag_resource(Resource=ARN, TagKeys=["team", "nothing"])
    assert c.list_tags(Resource=ARN)["Tags"] == {"cost centre": "ü/7", "tier": "2"}


def lists(c):
    for i in range(3):
        c.create_function(FunctionName=f"list-{i}", Runtime="python3.11", Role=ROLE,
                          Handler="app.handler", Code={"ZipFile": zipped(SECOND)})
    pages = list(c.get_paginator("list_functions").paginate(
        PaginationConfig={"PageSize": 2}))
    names = [f["FunctionName"] for page in pages for f in page["Functions"]]
    assert names == ["api", "list-0", "list-1", "list-2"] and len(pages) == 2, names
    pages = list(c.get_paginator("list_functions").paginate(
        FunctionVersion="ALL", PaginationConfig={"PageSize": 3}))
    assert sum(len(page["Functions"]) for page in pages) == 6, pages
    pages = c.get_paginator("list_versions_by_function").paginate(
        FunctionName="api", PaginationConfig={"PageSize": 1})
    assert [v["Version"] for page in pages for v in page["Versions"]] == ["$LATEST", "1", "2"]
    usage = c.get_account_settings()["AccountUsage"]
    assert usage["FunctionCount"] == 4 and usage["TotalCodeSize"] > 0, usage
    for i in range(3):
        c.delete_function(FunctionName=f"list-{i}")


def errors(c):
    try:
        c.get_function(FunctionName="nothing")
        raise AssertionError("found")
    except c.exceptions.ResourceNotFoundException as error:
        assert error.response["Type"] == "User", error.response
        assert error.response["Message"] == error.response["Error"]["Message"], error.response
    refused("ResourceNotFoundException", 404, c.invoke, FunctionName="api", Qualifier="7")
    refused("ResourceNotFoundException", 404, c.invoke, FunctionName="api", Qualifier="gamma")
    for name, arguments in NOT_HERE.items():
        message = refused("NotImplementedException", 501, getattr(c, name), **arguments)
        assert name.replace("_", "") in message.lower(), message


def every_operation(c):
    """Whatever this boto3 can ask for has its place: it is done, refused for a reason, or 501."""
    session = URLLib3Session()
    credentials = boto3.Session().get_credentials()
    names = 0
    for name in c.meta.service_model.operation_names:
        http = c.meta.service_model.operation_model(name).http
        url = sys.argv[1] + re.sub(r"{[^}]*}", "nothing", http["requestUri"])
        request = AWSRequest(http["method"], url, data=b"{}")
        SigV4Auth(credentials, "lambda", c.meta.region_name).add_auth(request)
        answer = session.send(request.prepare())
        kind = answer.headers.get("x-amzn-ErrorType", "")
        assert kind not in ("UnknownOperationException", "MethodNotAllowedException"), name
        assert answer.status_code != 501 or name in answer.text, (name, answer.text)
        assert answer.status_code < 500 or answer.status_code == 501, (name, answer.text)
        names += 1
    assert names > 60, names


def delete(c):
    refused("ResourceConflictException", 409, c.delete_function, FunctionName="api",
            Qualifier="2")
    c.delete_function(FunctionName="api", Qualifier="1")
    refused("ResourceNotFoundException", 404, c.invoke, FunctionName="api", Qualifier="1")
    assert invoke(c, "prod")[1]["code"] == "second"
    c.delete_function(FunctionName="api")
    refused("ResourceNotFoundException", 404, c.get_function, FunctionName="api")
    assert not c.list_functions()["Functions"]


def main():
    c = boto3.client("lambda", endpoint_url=sys.argv[1], config=Config(
        retries={"max_attempts": 0}, read_timeout=600, connect_timeout=60))
    for step in (create, publish, alias, concurrency, events_and_urls, invocation_types, tags,
                 lists, layers, download, errors, every_operation, delete):
        step(c)
        print(f"{step.__name__}: ok", flush=True)


main()
