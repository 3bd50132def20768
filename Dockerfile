# wavemix-tf with the compiler for Ethos-U, as a command.
#   docker build -t wavemix-tf . && docker run --rm -v "$PWD/runs:/data/runs" wavemix-tf run digits --out runs/digits
FROM python:3.12-slim
COPY . /src
RUN pip install --no-cache-dir "/src[ethos]" && rm -rf /src
WORKDIR /data
ENV TF_CPP_MIN_LOG_LEVEL=3
ENTRYPOINT ["wavemix-tf"]
