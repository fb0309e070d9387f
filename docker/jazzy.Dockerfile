# The node on ROS 2 Jazzy: docker build -f docker/jazzy.Dockerfile -t flowpose:jazzy .
# docker run --rm -it --net=host --ipc=host [--gpus all] -v /path/to/objects:/objects flowpose:jazzy
FROM ros:jazzy-perception

SHELL ["/bin/bash", "-c"]
WORKDIR /workspace
COPY package.xml src/flowpose_ros/package.xml
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-pip libegl1 libgl1 libgomp1 libusb-1.0-0 \
 && rosdep update \
 && rosdep install --from-paths src --ignore-src -y --skip-keys "python3-open3d-pip python3-trimesh-pip rviz2" \
 && rm -rf /var/lib/apt/lists/*
# The versions that are tested with. numpy stays below 2, which cv_bridge of the distribution is built for; the one that Ubuntu
# 22.04 brings itself is too old for trimesh.
COPY ros_from_pypi/requirements-core.txt ros_from_pypi/constraints-distribution.txt /tmp/
RUN pip install --no-cache-dir --break-system-packages --ignore-installed torch==2.13.0 \
    -r /tmp/requirements-core.txt -c /tmp/constraints-distribution.txt
COPY . src/flowpose_ros
RUN source /opt/ros/jazzy/setup.bash && colcon build --packages-select flowpose_ros

# Features of templates, so that the second start computes nothing: mount a volume here.
ENV FLOWPOSE_CACHE=/cache
VOLUME /cache
COPY docker/entrypoint.sh /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "flowpose_ros", "estimator.launch.py", "objects:=/objects"]
