// Runs HandmeshReceiver outside Unity: takes datagrams at a port until a whole frame has come, then prints its joints;
// then, of a file with the bind message, the first vertex and triangle of a hand's mesh.

using System;
using System.Globalization;
using System.IO;
using System.Reflection;
using System.Threading;
using Handmesh;
using UnityEngine;

public static class Driver
{
    public static int Main(string[] arguments)
    {
        CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
        HandmeshReceiver receiver = new GameObject("handmesh").AddComponent<HandmeshReceiver>();
        receiver.port = int.Parse(arguments[0]);
        Call(receiver, "OnEnable");
        Console.WriteLine("ready");
        for (int rotation = 0; rotation < 1000 && receiver.Frame == null; rotation++)
        {
            Thread.Sleep(10);
            Call(receiver, "Update");
        }
        Call(receiver, "OnDrawGizmos");
        foreach (HandMessage hand in receiver.Frame.hands)
        {
            PrintJoints(hand.side, receiver.Joints(hand.side));
        }
        Time.unscaledTime = 1f;
        Call(receiver, "Update");
        Console.WriteLine("hidden " + !receiver.Joints("left")[0].parent.gameObject.activeSelf);
        Call(receiver, "OnDisable");
        PrintMesh(JsonUtility.FromJson<BindMessage>(File.ReadAllText(arguments[1])));
        return 0;
    }

    private static void Call(HandmeshReceiver receiver, string method)
    {
        typeof(HandmeshReceiver).GetMethod(method, BindingFlags.Instance | BindingFlags.NonPublic).Invoke(receiver, null);
    }

    private static void PrintJoints(string side, Transform[] joints)
    {
        foreach (Transform joint in joints)
        {
            Vector3 p = joint.localPosition;
            Quaternion q = joint.localRotation;
            Console.WriteLine("joint " + side + " " + joint.name + " " + string.Join(" ", p.x, p.y, p.z, q.x, q.y, q.z, q.w));
        }
    }

    private static void PrintMesh(BindMessage bind)
    {
        Mesh mesh = HandmeshSkin.CreateMesh(bind, bind.hands.left);
        Vector3 first = mesh.vertices[0];
        int last = mesh.triangles.Length - 1;
        Console.WriteLine("vertex " + string.Join(" ", first.x, first.y, first.z));
        Console.WriteLine("last triangle " + string.Join(" ", mesh.triangles[last - 2], mesh.triangles[last - 1], mesh.triangles[last]));
        Console.WriteLine("bones " + mesh.bindposes.Length + " weights " + mesh.boneWeights.Length);
    }
}
